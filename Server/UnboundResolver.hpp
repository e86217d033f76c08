// UnboundResolver -- asks the DNS by libunbound: with a cache, DNSSEC, and a deadline for every question.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "Resolver.hpp"

namespace Net::SMTP {

// Asks recursive name servers and keeps their answers as long as they may be kept. Any number of threads may ask at
// once; none must while it is destroyed. The constructor starts no thread; the first question starts two (one of ours,
// one of libunbound's), with all signals blocked. A forked child has its own, from its first question on, and an empty
// cache; what it inherited it leaves alone, the destructor too. It lives in a library of its own: link
// net-smtp-server-dns. A weakness: libunbound's descriptors (four, and one for each question under way) are not
// close-on-exec.
//
// Of the names that are no matter of the DNS (RFC 6761) "localhost" is 127.0.0.1 and ::1, "invalid" and "onion" don't
// exist; anything else is asked for, "test" and "home.arpa" too. Search lists are not used: each name is a whole one.
class UnboundResolver final : public Resolver {
public:
    struct Options {
        // Whom to ask: addresses, "192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353"; port 53 where
        // none is named. Of several those that answer fast are asked more often. Empty: what `resolv_conf` names.
        std::vector<std::string> servers{};
        // A file with DS or DNSKEY records, such as Debian's /usr/share/dns/root.key: what signed zones are validated
        // by (RFC 4033). Empty: nothing is validated, and no answer is secure.
        std::string trust_anchor{};
        // Where `servers` is empty; the constructor reads both. "nameserver" lines, a port is understood
        // ("[::1]:5353"): the first eight are asked, and 127.0.0.1 when there is none, or no such file
        // (resolv.conf(5)).
        std::string resolv_conf = "/etc/resolv.conf";
        // A name with an address here has no others in the DNS (hosts(5)). Empty, or no such file: none.
        std::string hosts = "/etc/hosts";
    };

    // As the system does, without DNSSEC.
    UnboundResolver();
    // std::invalid_argument names a server that is no address; std::system_error when the trust anchor's file can't be
    // read, std::runtime_error when no anchor is in it. Each process reads that file again with its first question.
    explicit UnboundResolver(const Options& options);
    ~UnboundResolver() override;
    UnboundResolver(const UnboundResolver&) = delete;
    UnboundResolver& operator=(const UnboundResolver&) = delete;

    // See Resolver. U-labels are looked up as their A-labels (IDNA2008, non-transitional); a name with an underscore
    // ("_dmarc", "_25._tcp") is as good as any. A question that is given up goes on behind the scenes for a while, so
    // that its late answer may serve the next one. A zone whose signatures are wrong is `failed`. When no server
    // answers it is `timeout` or, after up to 20 s, `failed`; then mostly at once for a while.
    Records query(const std::string& name, RecordType type, const Wait& wait) override;
    // With a trust anchor.
    bool validates() const override;

private:
    struct Self;
    const std::unique_ptr<Self> self_;
};

}  // namespace Net::SMTP
