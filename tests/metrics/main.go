// Parses a scrape from stdin with Prometheus' own parser and prints it as JSON, with the findings of
// Prometheus' linter.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"os"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

type response struct {
	Families map[string]*dto.MetricFamily `json:"families"`
	Problems []promlint.Problem           `json:"problems"`
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		log.Fatal(err)
	}
	// The bound of the last bucket is +Inf, which JSON does not have.
	for _, family := range families {
		for _, metric := range family.Metric {
			if metric.Histogram != nil {
				metric.Histogram.Bucket = nil
			}
		}
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(response{families, problems}); err != nil {
		log.Fatal(err)
	}
}
