package token

import "math/big"

// fromInfineon reports whether an RSA modulus has the structure of the keys that Infineon's library made until 2017, and
// that can be factored (CVE-2017-15361, "ROCA"): modulo each small prime it is a power of 65537. A modulus of another
// origin has that by chance about once in two hundred million times.
func fromInfineon(n *big.Int) bool {
	rest := new(big.Int)
	for p := int64(3); p <= 167; p += 2 {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		want, power, found := rest.Mod(n, big.NewInt(p)).Int64(), int64(1), false
		for range p {
			if power == want {
				found = true
				break
			}
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}
