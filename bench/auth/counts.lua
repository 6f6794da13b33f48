-- Counts answers by status over all threads of wrk.
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function count(status)
  statuses = statuses or {}
  statuses[status] = (statuses[status] or 0) + 1
  -- A table cannot be read from another thread, a text can.
  local parts = {}
  for code, n in pairs(statuses) do
    table.insert(parts, code .. "=" .. n)
  end
  seen = table.concat(parts, " ")
end

function done()
  local sums = {}
  for _, thread in ipairs(threads) do
    for code, n in string.gmatch(thread:get("seen") or "", "(%d+)=(%d+)") do
      sums[code] = (sums[code] or 0) + tonumber(n)
    end
  end
  for code, n in pairs(sums) do
    io.write("status " .. code .. " " .. n .. "\n")
  end
end
