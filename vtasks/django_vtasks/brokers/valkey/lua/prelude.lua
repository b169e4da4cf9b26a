-- Put before every script. An entry is "1 <id> <attempt> <crashes> <lane> <lock>\n<payload>", or a payload alone; see
-- docs/reference/protocol.md.

local ENTRY = '^1 (%S+) (%d+) (%d+) ([+-]) (%S+)\n()'

-- Microseconds since the epoch by the server's clock; a double holds them exactly until the year 2255.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Wake one idle claim. A bell that has been rung and not heard is not rung twice.
local function ring(bell)
  if redis.call('LLEN', bell) == 0 then
    redis.call('LPUSH', bell, '1')
  end
end

-- Claims take from the right end: "+" is put before all that waits, "-" behind it.
local function enqueue(waiting, lane, entry)
  redis.call(lane == '+' and 'RPUSH' or 'LPUSH', waiting, entry)
end

local function free_lock(lock, id)
  if redis.call('GET', lock) == id then
    redis.call('DEL', lock)
  end
end

-- Put claims back where they were: the oldest becomes the next. Each is {receipt, entry}; a task that has crashed before
-- goes to the suspects.
local function give_back(claims, waiting, suspects, bell)
  table.sort(claims, function(a, b) return a[1] > b[1] end)
  local is_news = false
  for _, claim in ipairs(claims) do
    local _, _, crashes = string.match(claim[2], ENTRY)
    local is_suspect = crashes and crashes ~= '0'
    redis.call('RPUSH', is_suspect and suspects or waiting, claim[2])
    is_news = is_news or not is_suspect
  end
  if is_news then
    ring(bell)
  end
end

-- While a cluster moves the slot, a script fails at the first key that has gone ahead, or that it has just emptied itself,
-- and what it has done until then stays done: look at all keys first, and delete last.

-- Note what a holder ("<slot>:<incarnation>:<queue>" of a node) has in flight, up to the last receipt, but for what is kept;
-- return how much.
local function collect(prefix, node, holder, kept, last, flights, queues)
  local queue = string.match(holder, '[^:]*$')
  local flight = prefix .. ':flight:' .. node .. ':' .. holder
  local fields = redis.call('HGETALL', flight)
  local receipts = {}
  for i = 1, #fields, 2 do
    if not kept[fields[i]] and tonumber(fields[i]) <= last then
      queues[queue] = queues[queue] or {}
      table.insert(queues[queue], {tonumber(fields[i]), fields[i + 1]})
      table.insert(receipts, fields[i])
    end
  end
  flights[flight] = receipts
  return #receipts
end

-- Give back what collect() has noted.
local function give_back_all(prefix, flights, queues)
  for queue in pairs(queues) do
    for _, place in ipairs({'waiting', 'suspects', 'bell'}) do
      redis.call('EXISTS', prefix .. ':' .. place .. ':' .. queue)
    end
  end
  for queue, claims in pairs(queues) do
    give_back(claims, prefix .. ':waiting:' .. queue, prefix .. ':suspects:' .. queue, prefix .. ':bell:' .. queue)
  end
  for flight, receipts in pairs(flights) do
    for from = 1, #receipts, 1000 do
      redis.call('HDEL', flight, unpack(receipts, from, math.min(from + 999, #receipts)))
    end
  end
end
