-- wrk script: the requests of one workload, each time with other values.
-- BENCH_WORKLOAD, BENCH_PATH (in front of the table's name), BENCH_KEY (apikey) and BENCH_TOKEN (bearer) choose them.
local workload, base = os.getenv("BENCH_WORKLOAD"), os.getenv("BENCH_PATH")
local headers = {}
if os.getenv("BENCH_KEY") then headers["apikey"] = os.getenv("BENCH_KEY") end
if os.getenv("BENCH_TOKEN") then headers["authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN") end

headers["content-type"] = workload == "insert" and "application/json" or nil

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

-- Made before the load begins: to format one takes as long as a tenth of an answer, and longer with more headers.
local requests, last = {}, 0
function init()
  math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)"):sub(-6), 16))
  for i = 1, 5000 do
    requests[i] = make[workload]()
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

-- A response() of ours would have every answer's headers made into a table; wrk counts answers of 400 and more by itself.
function done(summary)
  local errors = summary.errors
  io.write("failed " .. errors.status + errors.connect + errors.read + errors.write + errors.timeout .. "\n")
end
