-- Note what a node says of itself.
-- KEYS: nodes, reports
-- ARGV: node, report
-- Returns: 1, or 0 when it has no lease

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
