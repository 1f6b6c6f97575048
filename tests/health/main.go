// Evaluates custom resources as Argo CD and Flux do: reads JSON objects from stdin, one per line, and prints
// for each object the verdict of the Lua rule in the file that the argument names, and the verdict of kstatus.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Argo    string `json:"argo"`
	Message string `json:"message"`
	Kstatus string `json:"kstatus"`
}

func main() {
	rule, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		answer, err := judge(string(rule), lines.Bytes())
		if err != nil {
			log.Fatal(err)
		}
		if err := answers.Encode(answer); err != nil {
			log.Fatal(err)
		}
	}
}

func judge(rule string, line []byte) (verdict, error) {
	var object unstructured.Unstructured
	if err := object.UnmarshalJSON(line); err != nil {
		return verdict{}, err
	}
	result, err := status.Compute(&object)
	if err != nil {
		return verdict{}, err
	}
	argo, message, err := run(rule, object.Object)
	return verdict{Argo: argo, Message: message, Kstatus: result.Status.String()}, err
}

// run evaluates a rule as Argo CD does: the object is the global `obj`, and the result is a table.
func run(rule string, object map[string]any) (string, string, error) {
	state := lua.NewState()
	defer state.Close()
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(rule); err != nil {
		return "", "", err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the rule returned no table")
	}
	return text(table, "status"), text(table, "message"), nil
}

func text(table *lua.LTable, key string) string {
	if text, ok := table.RawGetString(key).(lua.LString); ok {
		return string(text)
	}
	return ""
}

func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, item := range from {
			table.RawSetString(key, value(state, item))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case string:
		return lua.LString(from)
	case bool:
		return lua.LBool(from)
	case int64:
		return lua.LNumber(from)
	case float64:
		return lua.LNumber(from)
	default:
		return lua.LNil
	}
}
