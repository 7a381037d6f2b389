import asyncio
import os

import jwt
from langgraph_sdk import Auth

ISSUER = os.environ["USHER_ISSUER"]
AUDIENCE = os.environ["USHER_AUDIENCE"]
keys = jwt.PyJWKClient(os.environ["USHER_JWKS_URL"], timeout=5)  # cached for five minutes

auth = Auth()


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes]) -> Auth.types.MinimalUserDict:
    assertion = headers.get(b"usher-assertion", b"").decode("ascii", "replace")
    try:
        key = await asyncio.to_thread(keys.get_signing_key_from_jwt, assertion)
        token = jwt.decode_complete(
            assertion,
            key,
            algorithms=["ES256", "EdDSA"],
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway=5,
            options={"require": ["iss", "aud", "sub", "exp", "nbf"]},
        )
        if token["header"].get("typ") != "usher-assertion+jwt":
            raise jwt.InvalidTokenError("another kind of token")
    except jwt.PyJWKClientConnectionError:
        raise Auth.exceptions.HTTPException(status_code=503, detail="Service Unavailable")
    except jwt.PyJWTError:
        raise Auth.exceptions.HTTPException(status_code=401, detail="Unauthorized")
    claims = token["payload"]
    return {"identity": claims["sub"], "permissions": claims.get("permissions", [])}
