-- Record a slot of a schedule's entry and add its task.
-- KEYS: slots, then those of push_any
-- ARGV: entry, slot in µs, then those of push_any for one task
-- Returns: "taken" when the slot or a later one has been recorded, else 1 or 0 as push_any

local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(ARGV[2]) <= tonumber(last) then
  return redis.status_reply('taken')
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return push_any(1, 2)[1]
