-- wrk script: the requests of one workload, each time with other values.
-- BENCH_WORKLOAD, BENCH_PATH (in front of the table's name), BENCH_KEY (apikey) and BENCH_TOKEN (bearer) choose them.
local workload, base = os.getenv("BENCH_WORKLOAD"), os.getenv("BENCH_PATH")
local headers = {}
if os.getenv("BENCH_KEY") then headers["apikey"] = os.getenv("BENCH_KEY") end
if os.getenv("BENCH_TOKEN") then headers["authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN") end

local make = {
  row = function() return wrk.format("GET", base .. "/items?id=eq." .. math.random(1, 10000), headers) end,
  list = function()
    return wrk.format("GET", base .. "/items?select=id,name,price&order=id&limit=100&id=gte." .. math.random(1, 9900), headers)
  end,
  embed = function()
    local first = math.random(1, 980)
    return wrk.format("GET", base .. "/parents?select=id,name,children(id,name)&order=id&limit=20&id=gte." .. first, headers)
  end,
  insert = function()
    return wrk.format("POST", base .. "/events", headers, '{"name":"event ' .. math.random(1, 1000000) .. '","amount":' .. math.random(1, 1000) .. "}")
  end,
}
local expected = workload == "insert" and 201 or 200
headers["content-type"] = workload == "insert" and "application/json" or nil
request = make[workload]

function init()
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"):sub(-6), 16))
end

function response(status)
  if status ~= expected then
    failed = (failed or 0) + 1
  end
end

local threads = {}
function setup(thread)
  table.insert(threads, thread)
end

function done()
  local sum = 0
  for _, thread in ipairs(threads) do
    sum = sum + (thread:get("failed") or 0)
  end
  io.write("failed " .. sum .. "\n")
end
