-- Puts Usher's edit of the body in place. It must run right behind ext_authz, whose answer left the edit here and has
-- parked the request: :path is /.usher/edit-filter-missing until the last line restores it. Whatever fails before that
-- leaves the request parked, and a parked request is not forwarded.
function envoy_on_request(request)
  local edit = request:streamInfo():dynamicMetadata():get("envoy.filters.http.ext_authz")
  if edit == nil or edit["usher.body"] == nil then return end -- allowed as it is
  local length = request:body(true):setBytes(edit["usher.body"]) -- true: a request without a body gets one, too
  request:headers():remove("transfer-encoding") -- the length is known now, and only one of both may stand
  request:headers():replace("content-length", tostring(length))
  request:headers():replace(":path", edit["usher.path"])
end
