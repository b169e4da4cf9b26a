-- End a node's lease and give back what its owners hold.
-- KEYS: nodes, holders of the node, nodes that hold
-- ARGV: prefix, node
-- Returns: nothing of interest

redis.call('ZREM', KEYS[1], ARGV[2])
local claims = {}
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  give_back_all(ARGV[1], ARGV[2], holder, {}, claims)
end
return_to_queues(ARGV[1], claims)
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[2])
return redis.status_reply('OK')
