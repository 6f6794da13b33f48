-- wrk script: one row by primary key, another one each time.
local base, key = os.getenv("BENCH_PATH"), os.getenv("BENCH_KEY")

function init()
  math.randomseed(os.time())
end

function request()
  return wrk.format("GET", base .. "/items?id=eq." .. math.random(1, 10000), { apikey = key })
end

function response(status)
  if status ~= 200 then
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
