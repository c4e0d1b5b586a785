"""Plan, events, execution state, executor and strategies. It may import `backends` and below."""
