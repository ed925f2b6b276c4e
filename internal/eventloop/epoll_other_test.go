//go:build !linux

package eventloop

import "cryptointel/internal/hub"

func staleEpollEvents(*loop, hub.Ref) {}
