#include "HostWalk.hpp"

#include <algorithm>
#include <random>

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t most_exchangers = 100;  // a DNS answer could name thousands
constexpr std::size_t most_addresses = 16;    // of one host
constexpr int most_attempts = 50;             // RFC 5321 5.1 allows a limit

// "[192.0.2.1]" and "[IPv6:2001:db8::1]" of a mailbox; nullopt for any other kind of literal.
std::optional<std::string> literal_address(std::string_view domain) {
    auto inner = domain.substr(1, domain.size() - 2);
    constexpr std::string_view tag = "IPv6:";
    const bool v6 = inner.size() > tag.size() && same_text(inner.substr(0, tag.size()), tag);
    if (v6) inner.remove_prefix(tag.size());
    std::string text(inner);
    if (address_octets(text).size() != (v6 ? 16 : 4)) return std::nullopt;
    return text;
}

// Who shares mail out need not be unpredictable; to ask the machine for luck each time would take longer than all else.
std::minstd_rand& luck() {
    thread_local std::minstd_rand random{std::random_device{}()};
    return random;
}

}  // namespace

HostWalk HostWalk::by_mx(const std::string& domain, Settings settings) {
    HostWalk walk(std::move(settings));
    walk.like_.endpoint.port = walk.settings_.port;
    if (domain.empty()) {
        walk.failure_ = {550, "5.1.2", "No domain to deliver to"};
    } else if (domain.front() == '[') {
        const auto address = literal_address(domain);
        using Level = ClientTLS::Level;
        const auto level = walk.settings_.level == Level::dane ? Level::may : walk.settings_.level;
        if (address) walk.upstreams_.push_back({{*address, walk.settings_.port}, Protocol::smtp, {}, level});
        else walk.failure_ = {550, "5.1.2", "Not an address that mail can be sent to: " + domain};
    } else {
        walk.domain_ = domain;
        walk.asked_ = false;
    }
    return walk;
}

HostWalk HostWalk::to(const Upstream& host, Settings settings) {
    HostWalk walk(std::move(settings));
    walk.smart_ = true;
    walk.like_ = host;
    walk.like_.level = walk.settings_.level;
    const auto& e = host.endpoint;
    if (walk.settings_.resolver && !e.local() && address_octets(e.host).empty()) walk.hosts_.push_back(e.host);
    else walk.upstreams_.push_back(walk.like_);
    return walk;
}

std::optional<Upstream> HostWalk::next() {
    if (!asked_) find_exchangers();
    for (;;) {
        while (!upstreams_.empty()) {
            auto upstream = std::move(upstreams_.front());
            upstreams_.pop_front();
            if (upstream.endpoint == settings_.ourselves) {
                if (!found_ && !unsure_) failure_ = {554, "5.4.6", "Mail for " + domain_ + " would come back to us"};
                continue;
            }
            found_ = true;
            if (++given_ > most_attempts) return std::nullopt;
            upstream.witness = settings_.witness;
            return upstream;
        }
        if (hosts_.empty()) return std::nullopt;
        if (settings_.wait.over()) {
            failure_ = {451, "4.4.3", "No time was left to look up all mail servers"};
            return std::nullopt;
        }
        const auto host = std::move(hosts_.front());
        hosts_.pop_front();
        find_addresses(host);
    }
}

Wait HostWalk::one_lookup() const { return settings_.wait.within(Clock::now() + settings_.lookup); }

Records HostWalk::query(const std::string& name, RecordType type, const Wait& wait) const {
    try {
        return settings_.resolver->query(name, type, wait);
    } catch (...) {
        return {};
    }
}

void HostWalk::find_exchangers() {
    asked_ = true;
    using Status = Records::Status;
    const auto wait = one_lookup();
    const auto records = query(domain_, RecordType::MX, wait);
    secure_ = records.secure;
    const Reply unknown{451, "4.4.3", "The mail servers of " + domain_ + " could not be looked up"};
    switch (records.status) {
        case Status::no_domain: failure_ = {550, "5.1.2", "No such domain: " + domain_}; return;
        case Status::failed:
        case Status::timeout: failure_ = unknown; return;
        case Status::no_data:  // RFC 5321 5.1: the domain is its own mail server
            failure_ = {550, "5.1.2", "No mail server for " + domain_};
            hosts_.push_back(domain_);
            return;
        case Status::found: break;
    }
    auto all = mail_exchangers(records);
    if (all.empty()) {  // nothing in the answer makes sense
        failure_ = unknown;
        return;
    }
    if (all.size() == 1 && all.front().host.empty()) {
        failure_ = {556, "5.1.10", domain_ + " accepts no mail"};
        return;
    }
    // RFC 7505 3: a null MX among others means nothing.
    std::erase_if(all, [](const MailExchanger& m) { return m.host.empty(); });
    if (all.size() > 1) std::ranges::shuffle(all, luck());
    std::ranges::stable_sort(all, {}, &MailExchanger::preference);
    if (all.size() > most_exchangers) all.resize(most_exchangers);
    failure_ = {550, "5.4.4", "No mail server of " + domain_ + " has an address"};
    for (const auto& m : all) {
        // RFC 5321 5.1: who is in the list goes on to better ones only.
        if (same_text(m.host, settings_.hostname)) {
            const auto ours = m.preference;
            std::erase_if(all, [&](const MailExchanger& other) { return other.preference >= ours; });
            if (all.empty()) failure_ = {554, "5.4.6", "Mail for " + domain_ + " would come back to us"};
            break;
        }
    }
    for (auto& m : all) hosts_.push_back(std::move(m.host));
}

// IPv6 and IPv4 in turn, so that one which does not work here costs one attempt.
void HostWalk::find_addresses(const std::string& host) {
    std::vector<std::string> kinds[2];
    const auto wait = one_lookup();
    int which = 0;
    bool secure = true;
    std::string canonical;
    for (const auto type : {RecordType::AAAA, RecordType::A}) {
        const auto records = query(host, type, wait);
        kinds[which] = addresses(records);
        if (records.temporary() || (records.found() && kinds[which].empty())) unsure_ = true;
        if (kinds[which].size() > most_addresses) kinds[which].resize(most_addresses);
        if (records.found()) {
            secure = secure && records.secure;
            canonical = records.canonical;
        }
        ++which;
    }
    auto like = like_;
    const bool any = !kinds[0].empty() || !kinds[1].empty();
    if (any && !find_records(host, canonical, secure, like)) return;
    for (std::size_t i = 0; i < std::max(kinds[0].size(), kinds[1].size()); ++i)
        for (const auto& kind : kinds)
            if (i < kind.size()) {
                like.endpoint.host = kind[i];
                like.name = host + '[' + kind[i] + "]:" + std::to_string(like.endpoint.port);
                upstreams_.push_back(like);
            }
    if (found_ || !upstreams_.empty()) return;
    if (unsure_) failure_ = {451, "4.4.3", "The address of " + host + " could not be looked up"};
    else if (smart_) failure_ = {451, "4.4.4", "The next hop " + host + " has no address"};
}

// A host that may not be asked now; another one may.
void HostWalk::defer(const Reply& why) {
    if (!found_) failure_ = why;
    found_ = true;
}

// RFC 7672 2.2.2: where CNAMEs lead to comes first, if all of the way there is validated; the host's own name counts if
// that itself is. A smart host is meant by the name it was given.
std::optional<std::vector<std::string>> HostWalk::tlsa_bases(const std::string& host, const std::string& canonical,
                                                             bool secure) {
    if (smart_) return {{host}};
    if (!secure_) return {{}};
    const bool alias = !canonical.empty() && !same_text(canonical, host);
    if (secure && alias) return {{canonical, host}};
    if (secure) return {{host}};
    if (!alias) return {{}};
    const auto records = query(host, RecordType::CNAME, one_lookup());
    if (records.temporary()) return std::nullopt;
    return records.found() && records.secure ? std::vector{host} : std::vector<std::string>();
}

// What the host's certificate is to be, and how much TLS it takes (RFC 7672 2.2). False: not to be asked at all.
bool HostWalk::find_records(const std::string& host, const std::string& canonical, bool secure, Upstream& like) {
    using Level = ClientTLS::Level;
    like.names.assign(1, host);
    if (!smart_ && !same_text(host, domain_)) like.names.push_back(domain_);
    like.level = settings_.level;
    if (settings_.level != Level::dane) return true;
    like.level = Level::may;
    const auto bases = tlsa_bases(host, canonical, secure);
    bool known = bases.has_value();
    for (const auto& base : bases.value_or(std::vector<std::string>())) {
        const auto name = '_' + std::to_string(like.endpoint.port) + "._tcp." + base;
        const auto records = query(name, RecordType::TLSA, one_lookup());
        known = !records.temporary();
        if (!known) break;
        if (!records.found() || !records.secure) continue;
        like.names.front() = base;
        like.records = tlsa(records);
        std::ranges::sort(like.records);  // the same records are the same host to SessionCache
        const bool usable = std::ranges::any_of(like.records, ClientTLS::usable);
        like.level = usable ? Level::dane : Level::must;
        break;
    }
    if (!known) {
        defer({451, "4.7.5", "The TLSA records of " + host + " could not be looked up"});
        return false;
    }
    if (!smart_ || like.level == Level::dane) return true;
    const std::string what = like.level == Level::must ? "usable" : "validated";
    defer({451, "4.7.5", host + " has no " + what + " TLSA records, which are required"});
    return false;
}

}  // namespace Net::SMTP
