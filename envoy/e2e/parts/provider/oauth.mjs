// An OpenID provider for the end-to-end tests of tokens: every kind that Usher takes, and switches for what a provider
// does in years, such as a rotation of its keys. Its secrets stand below: never run it anywhere else. (For how a provider
// works, read provider.mjs.)
//
//     node oauth.mjs PORT             the issuer is http://127.0.0.1:PORT
//
//     POST /test/rotate               a new signing key, used at once; the old ones stay published
//     POST /test/withdraw             only the newest key stays published
//     GET  /test/counts               how often each path was asked for: {"/jwks": 1}
//     GET  /test/client-key           the private key of client rs-jwt, as a JWK

import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node oauth.mjs PORT");
  process.exit(2);
}
const issuer = `http://127.0.0.1:${port}`;

function newKey() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), alg: "ES256", use: "sig" };
}

const clientKey = newKey();
const publicPart = ({ d, ...rest }) => rest;

// A client that gets tokens for itself.
const machine = (id, more = {}) => ({
  client_id: id,
  client_secret: `${id}-secret`,
  grant_types: ["client_credentials"],
  response_types: [],
  redirect_uris: [],
  id_token_signed_response_alg: "ES256",
  ...more,
});

// A resource server's client: it only introspects.
const resourceServer = (id, method, more) => machine(id, { grant_types: [], token_endpoint_auth_method: method, ...more });

const clients = [
  machine("machine"),
  machine("neighbour"),
  machine("bound", { tls_client_certificate_bound_access_tokens: true }),
  resourceServer("rs-basic", "client_secret_basic"),
  resourceServer("rs-post", "client_secret_post"),
  resourceServer("rs-jwt", "private_key_jwt", {
    client_secret: undefined,
    token_endpoint_auth_signing_alg: "ES256",
    jwks: { keys: [publicPart(clientKey)] },
  }),
];

// What a client names as `resource` (RFC 8707), and the format of the access tokens for it.
const resources = new Map([
  ["https://jwt.example.com/", { audience: "api", accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } }],
  ["https://opaque.example.com/", { audience: "api", accessTokenFormat: "opaque" }],
]);

// All providers keep their tokens in one store: a rotation makes a new Provider, as its keys are fixed, and loses nothing.
const stored = new Map();
class Store {
  constructor(model) {
    this.key = (id) => `${model}:${id}`;
  }
  async upsert(id, payload) {
    stored.set(this.key(id), payload);
  }
  async find(id) {
    return stored.get(this.key(id));
  }
  async findByUid(uid) {
    return [...stored.entries()].find(([key, value]) => key.startsWith("Session:") && value.uid === uid)?.[1];
  }
  async findByUserCode() {}
  async consume(id) {
    stored.get(this.key(id)).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    stored.delete(this.key(id));
  }
  async revokeByGrantId(grantId) {
    for (const [key, value] of stored) if (value.grantId === grantId) stored.delete(key);
  }
}

const cookieKeys = [randomBytes(32).toString("base64url")];

function newProvider(keys) {
  return new Provider(issuer, {
    adapter: Store,
    jwks: { keys },
    cookies: { keys: cookieKeys },
    clients,
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    enabledJWA: { clientAuthSigningAlgValues: ["ES256"], dPoPSigningAlgValues: ["ES256"] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      dPoP: { enabled: true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        // This provider has no TLS: the tests send the certificate in a header, as a proxy before a provider does.
        getCertificate: (ctx) => decodeURIComponent(ctx.get("x-test-client-certificate")) || undefined,
      },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, indicator) => ({ scope: "", accessTokenTTL: 3600, ...resources.get(indicator) }),
      },
    },
    ttl: { ClientCredentials: 3600 },
  });
}

let keys = [newKey()];
let provider = newProvider(keys);
const counts = {};

function test(request, response) {
  const answer = (value) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  switch (`${request.method} ${request.url}`) {
    case "POST /test/rotate":
      keys = [newKey(), ...keys];
      provider = newProvider(keys);
      return answer({ kid: keys[0].kid });
    case "POST /test/withdraw":
      keys = keys.slice(0, 1);
      provider = newProvider(keys);
      return answer({ kid: keys[0].kid });
    case "GET /test/counts":
      return answer(counts);
    case "GET /test/client-key":
      return answer(clientKey);
  }
  response.writeHead(404).end();
}

const server = createServer((request, response) => {
  if (request.url.startsWith("/test/")) return test(request, response);
  const path = request.url.split("?")[0];
  counts[path] = (counts[path] ?? 0) + 1;
  provider.callback()(request, response);
});
server.listen(port, "127.0.0.1", () => console.log(`the issuer is ${issuer}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    server.closeAllConnections();
    server.close(() => process.exit(0));
  });
}
