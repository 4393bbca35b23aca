package cli

import "testing"

// The commands in an advice have the instance of the command that gives it.
func TestAdviceForAnInstance(t *testing.T) {
	for advice, want := range map[string]string{
		"look at them (tillhook events --outcome quarantined), then: tillhook events release ID": "look at them (tillhook events --instance live --outcome quarantined), then: tillhook events release --instance live ID",
		"see why: systemctl status tillhook, journalctl -u tillhook":                             "see why: systemctl status tillhook@live, journalctl -u tillhook@live",
		"systemctl restart tillhook@live":                                                        "systemctl restart tillhook@live", "systemctl status tillhook.socket": "systemctl status tillhook.socket",
		"see /etc/tillhook/tillhook.env": "see /etc/tillhook/tillhook.env", "start it with tillhook serve": "start it with tillhook serve",
		"tillhook payments --instance live": "tillhook payments --instance live",
	} {
		if got := (&Program{instance: "live"}).forInstance(advice); got != want {
			t.Errorf("%q becomes %q", advice, got)
		}
		if got := (&Program{}).forInstance(advice); got != advice {
			t.Errorf("%q becomes %q without an instance", advice, got)
		}
	}
}
