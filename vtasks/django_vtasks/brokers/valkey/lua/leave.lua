-- End a node's lease and give back what its owners hold.
-- KEYS: nodes, holders of the node, nodes that hold, reports
-- ARGV: prefix, node
-- Returns: nothing of interest

local flights, queues = {}, {}
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  collect(ARGV[1], ARGV[2], holder, {}, math.huge, flights, queues)
end
give_back_all(ARGV[1], flights, queues)
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[2])
redis.call('SREM', KEYS[3], ARGV[2])
redis.call('DEL', KEYS[2])
return redis.status_reply('OK')
