-- Give up the leadership of a role, if it is the node's.
-- KEYS: leader
-- ARGV: node
-- Returns: nothing of interest

if redis.call('HGET', KEYS[1], 'node') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'node', '', 'expires', 0)
end
return redis.status_reply('OK')
