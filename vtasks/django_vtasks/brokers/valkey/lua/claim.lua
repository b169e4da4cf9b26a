-- Move due tasks, the next ones first, into the in-flight record of an owner.
-- KEYS: waiting, delayed, suspects, bell, flight, nodes, holders of the node, receipts, paused queues
-- ARGV: node, holder, limit, "suspects" or "", bytes that those after the first may have, queue
-- Returns: first receipt, µs until the next delayed task is due or -1, entry…; error LEASELOST

if not redis.call('ZSCORE', KEYS[6], ARGV[1]) then
  return redis.error_reply('LEASELOST the node has no lease')
end
if redis.call('SISMEMBER', KEYS[9], ARGV[6]) == 1 then
  return {0, -1}
end
local limit, room = tonumber(ARGV[3]), tonumber(ARGV[5])
local source = KEYS[1]
local time = now()
if ARGV[4] == 'suspects' then
  source = KEYS[3]
else
  local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', time, 'LIMIT', 0, 1000)
  for _, entry in ipairs(due) do
    local _, _, _, lane = string.match(entry, ENTRY)
    redis.call('ZREM', KEYS[2], entry)
    enqueue(KEYS[1], lane, entry)
  end
end
-- Look at a few first, and at ever more while they turn out to be small.
local entries, at_once, is_over = {}, 1, false
while #entries < limit and not is_over do
  local had, wanted = #entries, math.min(at_once, limit - #entries)
  local some = redis.call('LRANGE', source, -had - wanted, -had - 1)
  is_over = #some < wanted
  for i = #some, 1, -1 do
    if #entries > 0 then
      room = room - #some[i]
      if room < 0 then
        is_over = true
        break
      end
    end
    entries[#entries + 1] = some[i]
  end
  at_once = 4 * at_once
end
local first = 0
if #entries > 0 then
  -- From the clock on, and not from the last one: a server that has lost its data must not give a receipt again.
  first = math.max(time, 1 + (redis.call('GET', KEYS[8]) or 0))
  redis.call('SET', KEYS[8], string.format('%.0f', first + #entries - 1))
  for from = 1, #entries, 1000 do
    local fields = {}
    for i = from, math.min(from + 999, #entries) do
      fields[#fields + 1] = first + i - 1
      fields[#fields + 1] = entries[i]
    end
    redis.call('HSET', KEYS[5], unpack(fields))
  end
  redis.call('SADD', KEYS[7], ARGV[2])
  redis.call('LTRIM', source, 0, -#entries - 1)
end
local next_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
-- Somebody else shall take what is left, or wait for what is delayed: this owner may be full for long.
if source == KEYS[1] and (redis.call('LLEN', KEYS[1]) > 0 or (#entries == limit and next_due)) then
  ring(KEYS[4])
end
local answer = {first, next_due and math.max(0, tonumber(next_due) - time) or -1}
for i = 1, #entries do
  answer[i + 2] = entries[i]
end
return answer
