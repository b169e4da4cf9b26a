-- KEYS: nodes
-- ARGV: none
-- Returns: node, µs left of its lease, …

local nodes = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local time = now()
for i = 2, #nodes, 2 do
  nodes[i] = nodes[i] - time
end
return nodes
