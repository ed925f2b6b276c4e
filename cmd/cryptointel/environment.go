package main

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

const (
	variablePrefix = "CRYPTOINTEL_"
	// secretVariable holds the secret that signs and verifies HS256 tokens.
	secretVariable = variablePrefix + secretWord
	secretWord     = "JWT_SECRET"
	tokenWord      = "TOKEN" // the token that publish uses
	dataWord       = "DATA"  // where tests find recordings
)

// environment is the variable of a flag: limits.channels has
// CRYPTOINTEL_LIMITS_CHANNELS.
func environment(flag string) string {
	return variablePrefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(flag))
}

// strangers are the variables that begin like ours and mean nothing, with the
// nearest that means something.
func strangers(environ []string, flags []*kong.Flag) map[string]string {
	known := []string{secretWord, tokenWord, dataWord}
	for _, flag := range flags {
		for _, name := range flag.Envs {
			known = append(known, strings.TrimPrefix(name, variablePrefix))
		}
	}
	out := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		word, ours := strings.CutPrefix(name, variablePrefix)
		if ours && !slices.Contains(known, word) && !kubernetes(name, value) {
			out[name] = variablePrefix + nearest(word, known)
		}
	}
	return out
}

var (
	serviceVariable = regexp.MustCompile(`_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	serviceAddress  = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// kubernetes reports whether a variable is one of those that a cluster sets in
// every container for a service whose name begins with cryptointel.
func kubernetes(name, value string) bool {
	return serviceVariable.MatchString(name) || strings.HasSuffix(name, "_PORT") && serviceAddress.MatchString(value)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
