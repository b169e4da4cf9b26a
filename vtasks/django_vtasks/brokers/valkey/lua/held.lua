-- Tell what an owner has in flight; forget its names that have nothing.
-- KEYS: holders of the node
-- ARGV: prefix, node, owner ("<slot>:<incarnation>:")
-- Returns: holder, receipt, entry, …

local answer = {}
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if string.sub(holder, 1, #ARGV[3]) == ARGV[3] then
    local flight = ARGV[1] .. ':flight:' .. ARGV[2] .. ':' .. holder
    local fields = redis.call('HGETALL', flight)
    for i = 1, #fields, 2 do
      table.insert(answer, holder)
      table.insert(answer, fields[i])
      table.insert(answer, fields[i + 1])
    end
    if #fields == 0 then -- a claim enters the name again
      redis.call('SREM', KEYS[1], holder)
    end
  end
end
return answer
