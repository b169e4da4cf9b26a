-- Let nobody claim tasks of a queue; a script, as a plain SADD is refused when memory is full, which is when it is needed.
-- KEYS: paused queues
-- ARGV: queue
-- Returns: nothing of interest

redis.call('SADD', KEYS[1], ARGV[1])
return redis.status_reply('OK')
