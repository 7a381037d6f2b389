// A small OpenID provider for the demo and the end-to-end tests. It is a real one (the authorization code flow with
// PKCE, discovery, a login form, a consent form, JWT access tokens), with two users whose passwords stand below: never
// run it anywhere else.
//
//     node provider.mjs PORT          the issuer is http://127.0.0.1:PORT
//
// Its signing key is made when it starts and is gone when it stops.

import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const port = Number(process.argv[2] ?? process.env.PORT);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node provider.mjs PORT");
  process.exit(2);
}
const issuer = `http://127.0.0.1:${port}`;

// For the demo and the tests only.
const users = new Map([
  ["alice", { name: "Alice Liddell", password: "alice-demo" }],
  ["bob", { name: "Bob Cratchit", password: "bob-demo" }],
]);

// Where the client is told that a user has logged out (OpenID Connect Back-Channel Logout 1.0), in tests of that.
const logoutURI = process.env.BACKCHANNEL_LOGOUT_URI;

// What a client names as `resource` (RFC 8707) to get an access token for the LangGraph server. The token's audience is
// the short name.
const resource = "https://agents.example.com/";
const audience = "langgraph";

function signingKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), alg: "RS256", use: "sig" };
}

const provider = new Provider(issuer, {
  jwks: { keys: [signingKey()] },
  cookies: { keys: [randomBytes(32).toString("base64url")] },
  clients: [
    {
      // A public client, as a command-line tool or a browser application is: no secret, PKCE instead. As a native
      // application it may use any port of the loopback address in its redirect (RFC 8252, section 7.3).
      client_id: "usher-demo",
      client_name: "Usher demo",
      application_type: "native",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code"],
      response_types: ["code"],
      redirect_uris: ["http://127.0.0.1/callback"],
      ...(logoutURI && { backchannel_logout_uri: logoutURI, backchannel_logout_session_required: true }),
    },
  ],
  pkce: { required: () => true },
  // Without the dispatcher that the provider brings: it refuses the loopback addresses on which all of this runs.
  fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
  scopes: ["openid", "profile"],
  claims: { openid: ["sub"], profile: ["name"] },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: Boolean(logoutURI) },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        audience,
        scope: "threads:read threads:write",
        accessTokenFormat: "jwt",
        accessTokenTTL: 3600,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  // Stays in the access token, for identity mappings that want a display name.
  extraTokenClaims: (_ctx, token) => ({ name: users.get(token.accountId)?.name }),
  findAccount: (_ctx, id) => {
    const user = users.get(id);
    return user && { accountId: id, claims: () => ({ sub: id, name: user.name }) };
  },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 3600, AuthorizationCode: 60, Grant: 3600, IdToken: 3600, Interaction: 600, Session: 3600 },
});

function page(response, status, title, form) {
  response.writeHead(status, { "content-type": "text/html; charset=utf-8", "cache-control": "no-store" });
  response.end(`<!doctype html><html lang="en"><head><title>${title}</title></head><body><h1>${title}</h1>${form}</body></html>`);
}

function loginPage(response, status, title) {
  page(
    response,
    status,
    title,
    `<form method="post"><label>User <input name="user" autofocus></label>
     <label>Password <input name="password" type="password"></label><button>Log in</button></form>
     <p>The demo's users: alice (password alice-demo) and bob (password bob-demo).</p>`,
  );
}

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escapeHTML = (text) => text.replace(/[&<>"']/g, (c) => escapes[c]);

async function readForm(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > 10_000) throw new Error("the form is too large");
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
}

// What the user is asked for: a login, then a consent.
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  const post = request.method === "POST";

  if (prompt.name === "login") {
    if (!post) return loginPage(response, 200, "Log in");
    const form = await readForm(request);
    const name = form.get("user") ?? "";
    const user = users.get(name);
    if (!user || form.get("password") !== user.password) return loginPage(response, 401, "Wrong user or password");
    return provider.interactionFinished(request, response, { login: { accountId: name } }, { mergeWithLastSubmission: false });
  }

  if (prompt.name === "consent") {
    const asked = [
      ...(prompt.details.missingOIDCScope ?? []),
      ...Object.values(prompt.details.missingResourceScopes ?? {}).flat(),
    ];
    if (!post) {
      return page(
        response,
        200,
        "Usher demo asks for access",
        `<p>${escapeHTML(session.accountId)}, may it have: ${escapeHTML(asked.join(", "))}?</p>
         <form method="post"><input type="hidden" name="consent" value="yes"><button>Allow</button></form>`,
      );
    }
    const form = await readForm(request);
    if (form.get("consent") !== "yes") {
      return provider.interactionFinished(request, response, { error: "access_denied" }, { mergeWithLastSubmission: false });
    }
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    if (prompt.details.missingOIDCScope) grant.addOIDCScope(prompt.details.missingOIDCScope.join(" "));
    if (prompt.details.missingOIDCClaims) grant.addOIDCClaims(prompt.details.missingOIDCClaims);
    for (const [indicator, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
      grant.addResourceScope(indicator, scopes.join(" "));
    }
    const saved = await grant.save();
    return provider.interactionFinished(request, response, { consent: { grantId: saved } }, { mergeWithLastSubmission: true });
  }

  page(response, 501, "Unknown question", `<p>${escapeHTML(prompt.name)}</p>`);
}

const standard = provider.callback();
const server = createServer((request, response) => {
  if (!request.url.startsWith("/interaction/")) return standard(request, response);
  interact(request, response).catch((error) => {
    console.error(error);
    if (response.headersSent) return response.destroy();
    page(response, error.statusCode ?? 500, "That did not work", `<p>${escapeHTML(error.message)}</p>`);
  });
});
server.listen(port, "127.0.0.1", () => console.log(`the issuer is ${issuer}`));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    server.closeAllConnections();
    server.close(() => process.exit(0));
  });
}
