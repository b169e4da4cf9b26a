-- End leases that have run out, and tell what nodes without a lease have in flight; but not the node that asks.
-- Forget the nodes that have nothing.
-- KEYS: nodes, nodes that hold, reports
-- ARGV: prefix, own node, "all" or "among", node…
-- Returns: node, holder, receipt, entry, …

local named = {}
for i = 4, #ARGV do
  named[ARGV[i]] = true
end
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now()))) do
  if node ~= ARGV[2] and (ARGV[3] == 'all' or named[node]) then
    redis.call('ZREM', KEYS[1], node)
    redis.call('HDEL', KEYS[3], node)
  end
end
local answer = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if node ~= ARGV[2] and not redis.call('ZSCORE', KEYS[1], node) then
    local holders = ARGV[1] .. ':holders:' .. node
    local found = false
    for _, holder in ipairs(redis.call('SMEMBERS', holders)) do
      local fields = redis.call('HGETALL', ARGV[1] .. ':flight:' .. node .. ':' .. holder)
      for i = 1, #fields, 2 do
        found = true
        table.insert(answer, node)
        table.insert(answer, holder)
        table.insert(answer, fields[i])
        table.insert(answer, fields[i + 1])
      end
    end
    if not found then
      redis.call('DEL', holders)
      redis.call('SREM', KEYS[2], node)
    end
  end
end
return answer
