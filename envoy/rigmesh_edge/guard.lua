-- What REST callers must obey, checked before the transcoder, which takes JSON under any content type and so would let
-- another site's form post through. Runs after the buffer filter: a body of any framing has a content-length by then.

local READ_ONLY = {GET = true, HEAD = true, OPTIONS = true}

local function refuse(handle, status, message)
  handle:respond({[":status"] = status}, message)
end

local function is_foreign(handle, headers)
  local origin = headers:get("origin")
  if origin == nil or READ_ONLY[headers:get(":method")] then
    return false
  end
  -- The scheme is left out: a proxy in front of us may be the one that speaks TLS.
  local listed = (handle:filterContext():get("cors_origins") or {})[origin]
  return not listed and origin:match("^https?://(.*)$") ~= headers:get(":authority")
end

local function has_body(headers)
  return (tonumber(headers:get("content-length") or "0") or 1) > 0
end

local function is_json(headers)
  local kind = (headers:get("content-type") or ""):lower()
  return kind:match("^application/json%s*$") ~= nil or kind:match("^application/json%s*;[^,]*$") ~= nil
end

local function is_encoded(headers)
  return (headers:get("content-encoding") or "identity"):lower() ~= "identity"
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local request_id = headers:get("x-request-id")
  if request_id ~= nil and (#request_id > 64 or not request_id:match("^[%w_.-]+$")) then
    headers:remove("x-request-id")
  end
  if is_foreign(handle, headers) then
    return refuse(handle, "403", "This origin may not change anything here.")
  end
  if (headers:get(":path") or ""):sub(1, 5) == "/api/" then
    if is_encoded(headers) then
      return refuse(handle, "415", "A request body must not be compressed.")
    end
    if has_body(headers) and not is_json(headers) then
      return refuse(handle, "415", "A request body must be application/json.")
    end
  end
end

-- The transcoder's own texts name the contract's types, which a caller of REST does not know; some refusals have no text.
local function reword(handle)
  local body = handle:body()
  if body == nil then
    return
  end
  local text = body:getBytes(0, body:length())
  text = text:gsub(' in the type \\"[%w_.]+\\"', ""):gsub(" for type [%w_./]+", "")
  text = text:gsub('"message":""', '"message":"The request is malformed or not allowed."')
  handle:headers():replace("content-length", tostring(body:setBytes(text)))
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  if status == "503" and headers:get("retry-after") == nil then
    headers:add("retry-after", "1")
  elseif status == "400" or status == "403" then
    reword(handle)
  end
end
