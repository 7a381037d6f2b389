package attacktest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // RS1, which nobody may accept
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// hashOf returns the hash of an algorithm by its last digits: RS1, and those of RFC 7518.
func hashOf(algorithm string) (crypto.Hash, error) {
	for suffix, h := range map[string]crypto.Hash{"S256": crypto.SHA256, "S384": crypto.SHA384, "S512": crypto.SHA512, "RS1": crypto.SHA1} {
		if strings.HasSuffix(algorithm, suffix) {
			return h, nil
		}
	}
	return 0, fmt.Errorf("cannot sign with algorithm %q", algorithm)
}

func digest(h crypto.Hash, input string) []byte {
	w := h.New()
	w.Write([]byte(input))
	return w.Sum(nil)
}

func signHMAC(algorithm string, secret []byte, input string) ([]byte, error) {
	h, err := hashOf(algorithm)
	if err != nil || !strings.HasPrefix(algorithm, "HS") {
		return nil, fmt.Errorf("cannot sign with algorithm %q and a secret", algorithm)
	}
	w := hmac.New(h.New, secret)
	w.Write([]byte(input))
	return w.Sum(nil), nil
}

// signWith signs with whatever algorithm the case asks for (RFC 7518, section 3; RFC 8037, section 3.1).
func signWith(algorithm string, key crypto.Signer, input string) ([]byte, error) {
	if k, ok := key.(ed25519.PrivateKey); ok && algorithm == "EdDSA" {
		return ed25519.Sign(k, []byte(input)), nil
	}
	h, err := hashOf(algorithm)
	if err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		switch {
		case strings.HasPrefix(algorithm, "RS"):
			return rsa.SignPKCS1v15(nil, k, h, digest(h, input))
		case strings.HasPrefix(algorithm, "PS"):
			return rsa.SignPSS(rand.Reader, k, h, digest(h, input), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	case *ecdsa.PrivateKey:
		if strings.HasPrefix(algorithm, "ES") {
			der, err := k.Sign(rand.Reader, digest(h, input), h)
			if err != nil {
				return nil, err
			}
			var rs struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(der, &rs); err != nil {
				return nil, err
			}
			size := (k.Curve.Params().BitSize + 7) / 8
			return append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...), nil
		}
	}
	return nil, fmt.Errorf("cannot sign with algorithm %q and a %T", algorithm, key)
}

// bend applies one operation to the signature.
func (g *lab) bend(op sigOp, m minted, r *Recipe) ([]byte, error) {
	sig := slices.Clone(m.signature)
	fromHex := func() ([]byte, error) { return hex.DecodeString(*op.Hex) }
	switch op.Op {
	case "flip_bit":
		bit := *op.Bit
		if bit < 0 {
			bit += 8 * len(sig)
		}
		if bit < 0 || bit >= 8*len(sig) {
			return nil, fmt.Errorf("no bit %d", *op.Bit)
		}
		sig[bit/8] ^= 0x80 >> (bit % 8)
		return sig, nil
	case "truncate":
		if *op.N < 0 || *op.N > len(sig) {
			return nil, fmt.Errorf("no %d bytes", *op.N)
		}
		return sig[:len(sig)-*op.N], nil
	case "zero":
		return make([]byte, max(0, *op.N)), nil
	case "set_hex":
		return fromHex()
	case "prepend_hex":
		b, err := fromHex()
		return append(b, sig...), err
	case "append_hex":
		b, err := fromHex()
		return append(sig, b...), err
	case "der":
		half := len(sig) / 2
		return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])})
	case "pad_components":
		half, zeros := len(sig)/2, make([]byte, max(0, *op.N))
		return slices.Concat(zeros, sig[:half], zeros, sig[half:]), nil
	case "add_order_s":
		return addOrder(sig)
	case "pkcs1_encoded_message":
		k, err := g.suite.keys.key(r.key.text)
		if err != nil {
			return nil, err
		}
		public, ok := k.private.Public().(*rsa.PublicKey)
		if !ok {
			return nil, errors.New("not an RSA key")
		}
		return encodedMessage(m.input, public.Size()), nil
	case "from":
		other, err := g.mint(op.Recipe)
		return other.signature, err
	}
	return nil, errors.New("unknown operation")
}

// addOrder adds the group's order to the S of an Ed25519 signature, which RFC 8032, section 5.1.7, wants refused.
func addOrder(sig []byte) ([]byte, error) {
	if len(sig) != ed25519.SignatureSize {
		return nil, errors.New("not an Ed25519 signature")
	}
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	little := slices.Clone(sig[32:])
	slices.Reverse(little)
	s := new(big.Int).SetBytes(little)
	s.Add(s, order)
	if s.BitLen() > 256 {
		return nil, errAgain
	}
	big := s.FillBytes(make([]byte, 32))
	slices.Reverse(big)
	return append(slices.Clone(sig[:32]), big...), nil
}

// encodedMessage is EMSA-PKCS1-v1_5 of a SHA-256 digest (RFC 8017, section 9.2): what a key with exponent 1 "signs".
func encodedMessage(input string, size int) []byte {
	info, _ := hex.DecodeString("3031300d060960864801650304020105000420")
	tail := append(info, digest(crypto.SHA256, input)...)
	out := append([]byte{0, 1}, slices.Repeat([]byte{0xff}, size-len(tail)-3)...)
	return append(append(out, 0), tail...)
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// apply does one operation on a compact text.
func (op formOp) apply(text string) (string, error) {
	segments := strings.Split(text, ".")
	var seg *string
	if op.Seg != nil {
		if *op.Seg < 0 || *op.Seg >= len(segments) {
			return "", fmt.Errorf("no segment %d", *op.Seg)
		}
		seg = &segments[*op.Seg]
	}
	switch op.Op {
	case "pad":
		n := (4 - len(*seg)%4) % 4
		if n == 0 {
			n = 4
		}
		*seg += strings.Repeat("=", n)
	case "std_alphabet":
		changed := strings.NewReplacer("-", "+", "_", "/").Replace(*seg)
		if changed == *seg {
			return "", errAgain
		}
		*seg = changed
	case "dirty_bits":
		unused := map[int]int{2: 1<<4 - 1, 3: 1<<2 - 1}[len(*seg)%4]
		if unused == 0 {
			return "", errAgain
		}
		last := strings.IndexByte(alphabet, (*seg)[len(*seg)-1])
		if last < 0 || last|unused == last {
			return "", errAgain
		}
		*seg = (*seg)[:len(*seg)-1] + alphabet[last|unused:last|unused+1]
	case "insert":
		if *op.At < 0 || *op.At > len(*seg) {
			return "", fmt.Errorf("no place %d in segment %d", *op.At, *op.Seg)
		}
		*seg = (*seg)[:*op.At] + *op.Text + (*seg)[*op.At:]
	case "add_segment":
		segments = append(segments, *op.Text)
	case "drop_segment":
		segments = slices.Delete(segments, *op.Seg, *op.Seg+1)
	case "detach":
		if len(segments) != 3 {
			return "", errors.New("not three segments")
		}
		segments[1] = ""
	case "json_flattened", "json_general":
		if len(segments) != 3 {
			return "", errors.New("not three segments")
		}
		signature := fmt.Sprintf(`"protected":%s,"signature":%s`, quoted(segments[0]), quoted(segments[2]))
		if op.Op == "json_flattened" { // RFC 7515, section 7.2.2
			return fmt.Sprintf(`{"payload":%s,%s}`, quoted(segments[1]), signature), nil
		}
		extra, err := hex.DecodeString(*op.ExtraSignatureHex)
		if err != nil {
			return "", err
		}
		second := fmt.Sprintf(`"protected":%s,"signature":%s`, quoted(segments[0]), quoted(b64u(extra)))
		return fmt.Sprintf(`{"payload":%s,"signatures":[{%s},{%s}]}`, quoted(segments[1]), signature, second), nil
	}
	return strings.Join(segments, "."), nil
}
