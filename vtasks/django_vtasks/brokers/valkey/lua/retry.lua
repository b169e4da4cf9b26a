-- Move a failed task back to its queue.
-- KEYS: failed, then those of push for one task
-- ARGV: record, then those of push for one task
-- Returns: 1; 0 when another task holds its lock; nothing when there is no such record any more

-- A push that failed half-way would leave the task in both places.
for place, look in pairs({[2] = 'SCARD', [3] = 'LLEN', [4] = 'ZCARD', [5] = 'LLEN'}) do
  redis.call(look, KEYS[place])
end
if not redis.call('LPOS', KEYS[1], ARGV[1]) then
  return false
end
local lock, id = KEYS[6], ARGV[9]
if lock then
  local holder = redis.call('GET', lock)
  if holder and holder ~= id then
    return 0
  end
  free_lock(lock, id) -- which has outlived the task's former life
end
push(1, 1)
redis.call('LREM', KEYS[1], 1, ARGV[1])
return 1
