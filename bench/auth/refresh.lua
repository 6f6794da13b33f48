-- Refreshes sessions, each with the token that its last answer had.
local here = debug.getinfo(1, "S").source:match("^@?(.*/)") or "./"
dofile(here .. "counts.lua")

local path, headers
local tokens = {}

function init()
  path = wrk.path .. "/token?grant_type=refresh_token"
  headers = { apikey = os.getenv("BENCH_KEY"), ["content-type"] = "application/json" }
  local n = 0
  for token in string.gmatch(os.getenv("BENCH_REFRESH"), "%S+") do
    -- Half of the sessions for each of two threads.
    if n % 2 == number then
      table.insert(tokens, 1, token)
    end
    n = n + 1
  end
end

function request()
  local token = table.remove(tokens) or "none-is-left-here"
  return wrk.format("POST", path, headers, '{"refresh_token":"' .. token .. '"}')
end

function response(status, _, body)
  count(status)
  local token = string.match(body, '"refresh_token":"([^"]+)"')
  if token then
    table.insert(tokens, 1, token)
  end
end
