-- Signs in with a password; one of four is wrong.
local here = debug.getinfo(1, "S").source:match("^@?(.*/)") or "./"
dofile(here .. "counts.lua")

local path, headers

function init()
  path = wrk.path .. "/token?grant_type=password"
  headers = { apikey = os.getenv("BENCH_KEY"), ["content-type"] = "application/json" }
  math.randomseed(os.time())
end

function request()
  local password = os.getenv("BENCH_PASSWORD")
  if math.random(4) == 1 then
    password = "a wrong one"
  end
  local email = "user" .. math.random(0, 127) .. "@example.org"
  return wrk.format("POST", path, headers, '{"email":"' .. email .. '","password":"' .. password .. '"}')
end

function response(status)
  count(status)
end
