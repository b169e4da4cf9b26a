-- Let the tasks of a queue be claimed again, and wake an idle claim: it wakes the next one when it leaves any.
-- KEYS: paused queues, bell
-- ARGV: queue
-- Returns: nothing of interest

redis.call('SREM', KEYS[1], ARGV[1])
ring(KEYS[2])
return redis.status_reply('OK')
