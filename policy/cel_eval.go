package policy

import (
	"fmt"
	"reflect"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// bool evaluates e; anything but a true or false is an error.
func (e *expression) bool(s *scope) (bool, error) {
	if e.scope != "" && s.user != nil {
		return slices.Contains(s.user.Permissions, e.scope), nil // what most rules ask, without a CEL list made of them
	}
	v, err := e.eval(s)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("expression gave %s, not bool", v.Type().TypeName())
	}
	return bool(b), nil
}

// value evaluates e to a JSON value.
func (e *expression) value(s *scope) (Value, error) {
	v, err := e.eval(s)
	if err != nil {
		return nil, err
	}
	if !within(v, maxResult) {
		return nil, errMade
	}
	return jsonValue(v, maxDepth)
}

// optional evaluates e to a value, or to none.
func (e *expression) optional(s *scope) (v Value, ok bool, err error) {
	got, err := e.eval(s)
	if err != nil {
		return nil, false, err
	}
	if o, isOptional := got.(*types.Optional); isOptional {
		if !o.HasValue() {
			return nil, false, nil
		}
		got = o.GetValue()
	}
	v, err = jsonValue(got, maxDepth)
	return v, err == nil, err
}

// string evaluates e to a string.
func (e *expression) string(s *scope) (string, error) {
	v, err := e.eval(s)
	if err != nil {
		return "", err
	}
	if text, ok := v.(types.String); ok {
		return string(text), nil
	}
	return "", fmt.Errorf("expression gave %s, not string", v.Type().TypeName())
}

// strings evaluates e to a list of strings.
func (e *expression) strings(s *scope) ([]string, error) {
	v, err := e.value(s)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("expression gave no list of strings")
	}
	out := make([]string, len(list))
	for i, item := range list {
		if out[i], ok = item.(string); !ok {
			return nil, fmt.Errorf("expression gave a list with something else than strings")
		}
	}
	return out, nil
}

// jsonValue turns a CEL value into a JSON one; what JSON cannot say is an error.
func jsonValue(v ref.Val, depth int) (Value, error) {
	if depth == 0 {
		return nil, fmt.Errorf("value nested deeper than %d", maxDepth)
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.String:
		return string(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		return uint64(v), nil
	case types.Double:
		return float64(v), nil
	case *types.Optional:
		if v.HasValue() {
			return jsonValue(v.GetValue(), depth-1)
		}
		return nil, fmt.Errorf("optional without a value; say which with orValue")
	}
	switch v.Type() {
	case types.ListType:
		native, err := v.ConvertToNative(reflect.TypeFor[[]ref.Val]())
		if err != nil {
			return nil, err
		}
		items := native.([]ref.Val)
		list := make([]any, len(items))
		for i, item := range items {
			if list[i], err = jsonValue(item, depth-1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case types.MapType:
		native, err := v.ConvertToNative(reflect.TypeFor[map[ref.Val]ref.Val]())
		if err != nil {
			return nil, err
		}
		object := map[string]any{}
		for k, item := range native.(map[ref.Val]ref.Val) {
			name, ok := k.(types.String)
			if !ok {
				return nil, fmt.Errorf("object with a name that is no string")
			}
			if object[string(name)], err = jsonValue(item, depth-1); err != nil {
				return nil, err
			}
		}
		return object, nil
	}
	return nil, fmt.Errorf("%s is no JSON value", v.Type().TypeName())
}
