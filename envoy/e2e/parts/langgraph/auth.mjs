import { Auth, HTTPException } from "@langchain/langgraph-sdk/auth";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { USHER_JWKS_URL, USHER_ISSUER, USHER_AUDIENCE } = process.env;
if (!USHER_JWKS_URL || !USHER_ISSUER || !USHER_AUDIENCE) {
  throw new Error("USHER_JWKS_URL, USHER_ISSUER and USHER_AUDIENCE are needed"); // what is not given is not checked
}
const keys = createRemoteJWKSet(new URL(USHER_JWKS_URL), { cacheMaxAge: 300_000 });

export const auth = new Auth().authenticate(async (request) => {
  try {
    const { payload } = await jwtVerify(request.headers.get("usher-assertion") ?? "", keys, {
      issuer: USHER_ISSUER,
      audience: USHER_AUDIENCE,
      typ: "usher-assertion+jwt",
      algorithms: ["ES256", "EdDSA"],
      requiredClaims: ["sub", "exp", "nbf"],
      clockTolerance: 5,
    });
    return { identity: payload.sub, permissions: payload.permissions ?? [] };
  } catch (error) {
    const bad = /^ERR_(JW[ST]|JOSE|JWKS_NO)/.test(error.code); // and not that the keys cannot be fetched
    throw new HTTPException(bad ? 401 : 503, { message: bad ? "Unauthorized" : "Service Unavailable" });
  }
});
