-- GET /user of one session.
local here = debug.getinfo(1, "S").source:match("^@?(.*/)") or "./"
dofile(here .. "counts.lua")

local path

function init()
  path = wrk.path .. "/user"
  headers = { apikey = os.getenv("BENCH_KEY"), authorization = "Bearer " .. os.getenv("BENCH_TOKEN") }
end

function request()
  return wrk.format("GET", path, headers)
end

function response(status)
  count(status)
end
