-- Apply what became of an owner's claims in one queue; one that is not in its in-flight record is nobody's business.
-- KEYS: flight, waiting, delayed, suspects, bell, failed, evicted, then each lock
-- ARGV: cap of the failed list, then five per settlement: verb, receipt, lock's number or 0, id, data
--       "ack"      forget it
--       "bury"     data = record for the failed list
--       "release"  put it back as if it had not been claimed
--       "suspect"  data = header; its owner died
--       "retry"    data = µs to wait, a space, and the header
-- Returns: 1 or 0 per settlement

local function with_header(entry, header)
  local payload = select(6, string.match(entry, ENTRY))
  return header .. '\n' .. string.sub(entry, payload or 1)
end

local cap = tonumber(ARGV[1])
-- Of two settlements of one claim the first holds. Those that need the entry come before those that only delete it.
local first, wanted = {}, {}
for i = 2, #ARGV, 5 do
  local receipt = ARGV[i + 1]
  if not first[receipt] then
    first[receipt] = i
    if ARGV[i] ~= 'ack' then
      wanted[#wanted + 1] = receipt
    end
  end
end
local entries = {}
for from = 1, #wanted, 1000 do
  local to = math.min(from + 999, #wanted)
  for i, entry in ipairs(redis.call('HMGET', KEYS[1], unpack(wanted, from, to))) do
    entries[wanted[from + i - 1]] = entry
  end
end

local answers, released, ended, buried = {}, {}, {}, 0
local has_retries = false
for i = 2, #ARGV, 5 do
  local verb, receipt, lock, id, data = unpack(ARGV, i, i + 4)
  local entry = first[receipt] == i and entries[receipt]
  local ours = 0
  if entry then
    ours = 1
    ended[#ended + 1] = receipt
    if verb == 'bury' then
      redis.call('LPUSH', KEYS[6], string.format('%.0f ', now()) .. data .. '\n' .. entry)
      buried = buried + 1
    elseif verb == 'release' then
      released[#released + 1] = {tonumber(receipt), entry}
    elseif verb == 'suspect' then
      redis.call('LPUSH', KEYS[4], with_header(entry, data))
    elseif verb == 'retry' then
      local delay, header = string.match(data, '^(%d+) (.*)$')
      redis.call('ZADD', KEYS[3], now() + tonumber(delay), with_header(entry, header))
      has_retries = true
    end
    if lock ~= '0' then
      free_lock(KEYS[7 + tonumber(lock)], id)
    end
  end
  answers[#answers + 1] = ours
end
give_back(released, KEYS[2], KEYS[4], KEYS[5])
if has_retries then
  ring(KEYS[5])
end
if buried > 0 then
  local excess = redis.call('LLEN', KEYS[6]) - cap
  if excess > 0 then
    redis.call('LTRIM', KEYS[6], 0, cap - 1)
    redis.call('INCRBY', KEYS[7], excess)
  end
end
for from = 1, #ended, 1000 do
  redis.call('HDEL', KEYS[1], unpack(ended, from, math.min(from + 999, #ended)))
end

for i = 2, #ARGV, 5 do
  local verb, receipt, lock, id = unpack(ARGV, i, i + 3)
  if verb == 'ack' and first[receipt] == i then
    local ours = redis.call('HDEL', KEYS[1], receipt)
    if ours == 1 and lock ~= '0' then
      free_lock(KEYS[7 + tonumber(lock)], id)
    end
    answers[(i + 3) / 5] = ours
  end
end
return answers
