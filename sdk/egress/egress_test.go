package egress_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/sdk/egress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck(t *testing.T) {
	t.Parallel()
	cases := []struct {
		promise, allow, host, to string
		want                     bool
	}{
		{"EmptyListAllowsNothing", "", "example.com", "93.184.216.34:443", false},
		{"NameLeadsToPublicAddress", "example.com", "example.com", "93.184.216.34:443", true},
		{"NameIsWithoutCaseAndFinalDot", "Example.com", "EXAMPLE.COM.", "93.184.216.34:443", true},
		{"OtherNameIsRefused", "example.com", "example.org", "93.184.216.34:443", false},
		{"NameBelowIsAnotherName", "example.com", "a.example.com", "93.184.216.34:443", false},
		{"PortIsHeld", "example.com:443", "example.com", "93.184.216.34:80", false},
		{"WildcardIsNamesBelow", "*.example.com:443", "a.b.example.com", "93.184.216.34:443", true},
		{"WildcardIsNotTheNameItself", "*.example.com", "example.com", "93.184.216.34:443", false},
		{"WildcardIsNotASuffixOfALabel", "*.example.com", "badexample.com", "93.184.216.34:443", false},
		{"StarIsEveryPublicAddress", "*", "anything.org", "93.184.216.34:80", true},
		{"StarIsNotPrivate", "*", "anything.org", "10.0.0.1:80", false},
		{"StarIsNotLoopback", "*", "anything.org", "127.0.0.1:80", false},
		{"NameThatTurnsToLoopbackIsRefused", "example.com", "example.com", "127.0.0.1:443", false},
		{"NameThatTurnsToPrivateIsRefused", "example.com", "example.com", "192.168.1.1:443", false},
		{"NameThatTurnsToMetadataIsRefused", "example.com", "example.com", "169.254.169.254:80", false},
		{"PrivateIsReachedByListingIt", "10.0.0.0/8", "his.hospital.local", "10.1.2.3:80", true},
		{"NetworkWithPortHoldsPort", "10.0.0.0/8:8080", "his.hospital.local", "10.1.2.3:80", false},
		{"AddressWithPort", "127.0.0.1:18080", "127.0.0.1", "127.0.0.1:18080", true},
		{"AddressWithOtherPort", "127.0.0.1:18080", "127.0.0.1", "127.0.0.1:18081", false},
		{"LocalhostListsLoopback", "localhost:18080", "localhost", "[::1]:18080", true},
		{"EverythingDoesNotListLoopback", "0.0.0.0/0", "127.0.0.1", "127.0.0.1:80", false},
		{"EverythingDoesNotListMetadata", "0.0.0.0/0, ::/0", "169.254.169.254", "169.254.169.254:80", false},
		{"EverythingListsPrivate", "0.0.0.0/0", "10.1.1.1", "10.1.1.1:80", true},
		{"MetadataHiddenInCarrierRange", "100.64.0.0/10", "100.100.100.200", "100.100.100.200:80", false},
		{"MappedLoopbackIsLoopback", "*", "x.org", "[::ffff:127.0.0.1]:80", false},
		{"MappedPrivateIsItsNetwork", "10.0.0.0/8", "x.org", "[::ffff:10.1.2.3]:80", true},
		{"TranslatedAddressIsRefused", "*", "x.org", "[64:ff9b::7f00:1]:80", false},
		{"SixToFourIsRefused", "*", "x.org", "[2002:7f00:1::]:80", false},
		{"LinkLocalWithZone", "*", "x.org", "[fe80::1%eth0]:80", false},
		{"UnspecifiedIsRefused", "*", "x.org", "0.0.0.0:80", false},
		{"IPv6Network", "fd00:1::/32", "x.local", "[fd00:1::5]:443", true},
		{"IPv6AddressWithPort", "[fd00::1]:443", "x.local", "[fd00::1]:443", true},
		{"ExclusionWins", "10.0.0.0/8 !10.0.0.5:8080", "x.local", "10.0.0.5:8080", false},
		{"ExclusionIsOfItsPort", "10.0.0.0/8 !10.0.0.5:8080", "x.local", "10.0.0.5:80", true},
		{"ExclusionOfName", "*, !bad.example.com", "bad.example.com", "93.184.216.34:443", false},
	}
	for _, c := range cases {
		t.Run(c.promise, func(t *testing.T) {
			t.Parallel()
			policy, err := egress.Parse(c.allow)
			if err != nil {
				t.Fatal(err)
			}
			err = policy.Check(c.host, netip.MustParseAddrPort(c.to))
			if (err == nil) != c.want {
				t.Fatalf("%q to %s (%s): %v", c.allow, c.host, c.to, err)
			}
			if refused, ok := errors.AsType[*egress.Refused](err); err != nil && (!ok || refused.Reason == "") {
				t.Fatalf("refusal without reason: %#v", err)
			}
			if err := policy.CheckName(c.host, netip.MustParseAddrPort(c.to).Port()); err != nil && c.want {
				t.Fatalf("%q to %s (%s) is allowed, but refused by its name: %v", c.allow, c.host, c.to, err)
			}
		})
	}
}

func TestCheckNameRefusesWhatNoAddressCouldMend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allow, host string
		port        uint16
		want        bool
	}{
		{"example.com:443", "Example.com.", 443, true},
		{"example.com:443", "example.com", 80, false},
		{"example.com", "example.org", 443, false},
		{"example.com, 10.0.0.0/8:8080", "his.local", 8080, true}, // it may be one of these
		{"example.com, 10.0.0.0/8:8080", "his.local", 80, false},
		{"10.0.0.0/8:8080", "10.1.2.3", 8080, true},
		{"10.0.0.0/8:8080", "11.1.2.3", 8080, false},
		{"::/0", "::1", 80, false},
		{"*, !example.com", "example.com", 80, false},
		{"", "example.com", 80, false},
	} {
		policy, err := egress.Parse(c.allow)
		if err != nil {
			t.Fatal(err)
		}
		if err := policy.CheckName(c.host, c.port); (err == nil) != c.want || err != nil && !isRefused(err) {
			t.Errorf("%q to %s:%d: %v", c.allow, c.host, c.port, err)
		}
	}
}

func TestParseRefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"http://example.com", "example.com:0", "example.com:x", "10.0.0.0/33", "*.*.com", "a*b.com", "user@host", "!", "10.0.0.0/8:99999", "a/b"} {
		if _, err := egress.Parse("ok.example.com," + bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a:1,b", "10.0.0.0/8:80", "[::1]:1", "!*", "*.x", "::/0"} {
		f.Add(seed)
	}
	loopback := netip.MustParseAddrPort("127.0.0.1:80")
	f.Fuzz(func(t *testing.T, text string) {
		policy, err := egress.Parse(text)
		if err != nil {
			return
		}
		if policy.Check("example.com", loopback) == nil && !strings.Contains(text, "127.") && !strings.Contains(strings.ToLower(text), "localhost") && !strings.Contains(text, ":") {
			t.Fatalf("%q lists loopback", text)
		}
	})
}

func get(t *testing.T, client *http.Client, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(req)
	if err == nil {
		_ = response.Body.Close()
	}
	return err
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*egress.Refused](err)
	return ok
}

func TestClient(t *testing.T) {
	hit := 0
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit++ }))
	defer inner.Close()
	outer := httptest.NewServer(http.RedirectHandler(inner.URL, http.StatusFound))
	defer outer.Close()
	address := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

	t.Run("ReachesWhatIsListed", func(t *testing.T) {
		policy, err := egress.Parse(address(inner))
		if err != nil {
			t.Fatal(err)
		}
		defer policy.CloseIdle()
		if err := get(t, policy.Client(), inner.URL); err != nil || hit != 1 {
			t.Fatalf("%v, %d hits", err, hit)
		}
	})
	t.Run("RefusesLoopbackThatIsNotListed", func(t *testing.T) {
		policy, err := egress.Parse("*")
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range []string{inner.URL, strings.Replace(inner.URL, "127.0.0.1", "localhost", 1), strings.Replace(inner.URL, "127.0.0.1", "0.0.0.0", 1)} {
			if err := get(t, policy.Client(), url); !isRefused(err) {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
	t.Run("RefusesTheTargetOfARedirect", func(t *testing.T) {
		policy, err := egress.Parse(address(outer))
		if err != nil {
			t.Fatal(err)
		}
		defer policy.CloseIdle()
		before := hit
		if err := get(t, policy.Client(), outer.URL); !isRefused(err) || hit != before {
			t.Fatalf("%v, %d hits", err, hit-before)
		}
	})
	t.Run("AsksNoNameServerForANameThatIsNotListed", func(t *testing.T) {
		policy, err := egress.Parse("example.com")
		if err != nil {
			t.Fatal(err)
		}
		err = get(t, policy.Client(), "http://secret.attacker.invalid/")
		refused, ok := errors.AsType[*egress.Refused](err)
		if !ok || refused.Address != "" {
			t.Fatalf("%v", err)
		}
	})
	t.Run("UsesNoProxyOfTheEnvironment", func(t *testing.T) {
		t.Setenv("HTTP_PROXY", inner.URL)
		policy := egress.Nothing("a test")
		if err := get(t, policy.Client(), "http://example.com/"); !isRefused(err) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("CachedSharesConnections", func(t *testing.T) {
		one, err := egress.Cached(address(inner))
		if err != nil {
			t.Fatal(err)
		}
		two, err := egress.Cached(address(inner))
		if err != nil || one != two {
			t.Fatalf("%v, same %v", err, one == two)
		}
	})
}
