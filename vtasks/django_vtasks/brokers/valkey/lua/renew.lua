-- Extend a node's lease, or begin one.
-- KEYS: nodes, nodes that hold
-- ARGV: node, µs
-- Returns: 1 when it had one

redis.call('SADD', KEYS[2], ARGV[1])
return 1 - redis.call('ZADD', KEYS[1], now() + tonumber(ARGV[2]), ARGV[1])
