// The Prometheus operator, whose definitions the chart's monitors and alerts are checked against: `go.sum` pins every byte of it.
module weir.dev/e2e/prometheus-operator

go 1.25.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
