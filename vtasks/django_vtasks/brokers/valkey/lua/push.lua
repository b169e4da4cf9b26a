-- Add plain tasks to one queue: no lock, no due time, no precedence.
-- KEYS: waiting, bell, queues
-- ARGV: queue, entry…
-- Returns: nothing of interest

for first = 2, #ARGV, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
redis.call('SADD', KEYS[3], ARGV[1])
ring(KEYS[2])
return redis.status_reply('OK')
