-- KEYS: leader
-- ARGV: none
-- Returns: the node that leads, or nothing

local held = redis.call('HMGET', KEYS[1], 'node', 'expires')
return held[2] and tonumber(held[2]) > now() and held[1]
