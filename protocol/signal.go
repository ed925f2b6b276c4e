package protocol

// ParseSignal reads from a signal_alert's data what channels and filters look
// at. High is not in the data: it is stored beside it. The error says which
// field is wrong.
func ParseSignal(data []byte) (*Signal, *Error) {
	v, bad := ParseValue(data)
	if bad != nil {
		return nil, invalid("data: " + bad.Error())
	}
	if v.Kind() != '{' {
		return nil, invalid("data must be an object")
	}
	s := &Signal{}
	for key, val := range v.Fields() {
		if err := s.set(string(key), val); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Signal) set(key string, v Value) *Error {
	switch key {
	case "id":
		return textField(&s.ID, key, v)
	case "type":
		return textField(&s.Type, key, v)
	case "severity":
		return textField(&s.Severity, key, v)
	case "entities":
		return textsField(&s.Entities, key, v)
	case "sources":
		return textsField(&s.Sources, key, v)
	case "confidence":
		c, ok := v.Float()
		if !ok || c < 0 || c > 1 {
			return invalid("'confidence' must be a number from 0 to 1")
		}
		s.Confidence, s.HasConfidence = c, true
	}
	return nil
}

func textsField(dst *[]string, key string, v Value) *Error {
	list, ok := v.Texts()
	if !ok {
		return invalid("'" + key + "' must be a list of strings")
	}
	*dst = list
	return nil
}
