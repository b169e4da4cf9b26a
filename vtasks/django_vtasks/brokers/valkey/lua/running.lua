-- Tell what is in flight.
-- KEYS: nodes that hold
-- ARGV: prefix, how many at most
-- Returns: node, holder, receipt, entry, …

local answer, left = {}, tonumber(ARGV[2])
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  for _, holder in ipairs(redis.call('SMEMBERS', ARGV[1] .. ':holders:' .. node)) do
    local flight = ARGV[1] .. ':flight:' .. node .. ':' .. holder
    local receipts = redis.call('HKEYS', flight)
    for i = 1, math.min(left, #receipts) do
      for _, part in ipairs({node, holder, receipts[i], redis.call('HGET', flight, receipts[i])}) do
        answer[#answer + 1] = part
      end
    end
    left = math.max(0, left - #receipts)
  end
end
return answer
