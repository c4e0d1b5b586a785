-- wrk's script: every request is a body that was never sent before, for the price of one concatenation.
-- Arguments: the template (see bodies.py), and the number from which the new digits are counted.
local pieces, next_number = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for piece in (file:read("*a") .. "\1"):gmatch("(.-)\1") do
    pieces[#pieces + 1] = piece
  end
  file:close()
  next_number = tonumber(args[2])
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  next_number = next_number + 1
  return wrk.format("POST", nil, nil, table.concat(pieces, string.format("%08d", next_number)))
end

function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format(
    'figures: {"answered": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50": %.3f, "p99": %.3f}\n',
    summary.requests, summary.duration / 1e6, failed.status, failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
