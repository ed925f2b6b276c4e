package protocol

// ParseSignal reads from a signal_alert's data what channels and filters look
// at. High is not in the data: it is stored beside it. The error says which
// field is wrong.
func ParseSignal(data []byte) (*Signal, *Error) {
	if err := CheckJSON(data); err != nil {
		return nil, invalid("data: " + err.Error())
	}
	v := raw(skipSpace(data))
	if v.kind() != '{' {
		return nil, invalid("data must be an object")
	}
	s := &Signal{}
	for it := elements(v); ; {
		key, val, ok := it.field()
		if !ok {
			return s, nil
		}
		if err := s.set(key, val); err != nil {
			return nil, err
		}
	}
}

func (s *Signal) set(key string, v raw) *Error {
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
		c, ok := v.float()
		if !ok || c < 0 || c > 1 {
			return invalid("'confidence' must be a number from 0 to 1")
		}
		s.Confidence, s.HasConfidence = c, true
	}
	return nil
}

func textsField(dst *[]string, key string, v raw) *Error {
	list, ok := v.texts()
	if !ok {
		return invalid("'" + key + "' must be a list of strings")
	}
	*dst = list
	return nil
}
