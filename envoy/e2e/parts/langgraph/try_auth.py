"""For the tests: calls the handler of auth.py as LangGraph's Python server does, and writes what it answers. Reads one JSON
list of assertions from standard input; null is no header at all."""

import asyncio
import json
import sys

from auth import auth
from langgraph_sdk import Auth


async def main() -> None:
    out = []
    for assertion in json.load(sys.stdin):
        headers = {b"host": b"127.0.0.1"}
        if assertion is not None:
            headers[b"usher-assertion"] = assertion.encode()
        try:
            out.append({"status": 200, "user": await auth._authenticate_handler(headers=headers)})
        except Auth.exceptions.HTTPException as e:
            out.append({"status": e.status_code})
    print(json.dumps(out))


asyncio.run(main())
