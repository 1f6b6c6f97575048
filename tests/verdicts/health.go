package main

import (
	"fmt"
	"path"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	"github.com/argoproj/argo-cd/v3/resource_customizations"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Argo    string `json:"argo"`
	Message string `json:"message"`
	Kstatus string `json:"kstatus"`
}

func judge(object *unstructured.Unstructured) (*verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	response := &verdict{Kstatus: result.Status.String()}
	argo, err := health.GetResourceHealth(object, rules{})
	if argo != nil {
		response.Argo, response.Message = string(argo.Status), argo.Message
	}
	return response, err
}

// rules are the Lua rules that Argo CD contains.
type rules struct{}

// GetResourceHealth evaluates the rule for the object's kind as Argo CD does: the object is the global `obj`, and the
// result is a table.
func (rules) GetResourceHealth(object *unstructured.Unstructured) (*health.HealthStatus, error) {
	kind := object.GroupVersionKind()
	rule, err := resource_customizations.Embedded.ReadFile(path.Join(kind.Group, kind.Kind, "health.lua"))
	if err != nil {
		return nil, nil
	}
	state := lua.NewState()
	defer state.Close()
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(string(rule)); err != nil {
		return nil, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the rule returned no table")
	}
	verdict := health.HealthStatus{Status: health.HealthStatusCode(text(table, "status")), Message: text(table, "message")}
	return &verdict, nil
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
