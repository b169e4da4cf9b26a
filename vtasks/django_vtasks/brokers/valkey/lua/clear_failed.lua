-- Empty the failed list.
-- KEYS: failed
-- ARGV: none
-- Returns: how many entries it had

local count = redis.call('LLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
return count
