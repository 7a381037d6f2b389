// The handler of the differential test: it reads a policy, the one that the request names by its number, in the neutral
// form that the test also writes as Usher's manifests. Which handler applies is left to the server: a policy's rules are
// registered under their own names, as an application's handlers are. The test sends one request after the other.

import { readFileSync } from "node:fs";
import { Auth, HTTPException } from "@langchain/langgraph-sdk/auth";

const policies = JSON.parse(readFileSync(process.env.DIFFERENTIAL_POLICIES, "utf8"));
const permissions = JSON.parse(process.env.DIFFERENTIAL_PERMISSIONS);
const operator = process.env.DIFFERENTIAL_OPERATOR; // it may do everything: the test looks and cleans up with it

// fill puts the user in the place of "$user".
function fill(shape, user) {
  if (shape === "$user") return user.identity;
  if (Array.isArray(shape)) return shape.map((v) => fill(v, user));
  if (typeof shape === "object" && shape !== null) {
    return Object.fromEntries(Object.entries(shape).map(([k, v]) => [k, fill(v, user)]));
  }
  return shape;
}

function allowed(rule, value, user) {
  switch (rule.allow) {
    case "yes":
      return true;
    case "no":
      return false;
    case "users":
      return rule.users.includes(user.identity);
    case "permission":
      return user.permissions.includes(rule.permission);
    case "namespace":
      return value.namespace != null && value.namespace[0] === user.identity;
    case "tag":
      return value.metadata?.tag === "x";
    default:
      throw new Error(`an unknown condition ${rule.allow}`);
  }
}

const stamped = ["create", "update", "create_run"];

function handler(rule) {
  return ({ action, value, user }) => {
    if (!allowed(rule, value, user)) return false;
    if (rule.stamp && stamped.includes(action)) {
      value.metadata ??= {};
      Object.assign(value.metadata, fill(rule.stamp, user));
    }
    return rule.filter ? fill(rule.filter, user) : true;
  };
}

export const auth = new Auth().authenticate(async (request) => {
  const [, name] = /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "") ?? [];
  const handlers = auth["~handlerCache"];
  if (operator && name === operator) {
    handlers.callbacks = {};
    return { identity: "operator", permissions: [] };
  }
  const policy = policies[Number(request.headers.get("policy-number"))];
  if (!policy || !Object.hasOwn(permissions, name)) throw new HTTPException(401, { message: "Unauthorized" });
  handlers.callbacks = {};
  for (const rule of policy.rules) auth.on(rule.on, handler(rule));
  return { identity: name, permissions: permissions[name] };
});
