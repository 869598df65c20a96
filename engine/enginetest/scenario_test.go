package enginetest_test

import "testing"

func TestScenarios(t *testing.T) { runScenarios(t, "testdata/*.txt") }
