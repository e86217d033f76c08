#include "UnboundResolver.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "Address.hpp"
#include "Content.hpp"
#include "DomainName.hpp"
#include "Endpoint.hpp"
#include "Unbound.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t most_servers = 8;      // of a resolv.conf
constexpr std::size_t most_read = 16 << 20;  // of a file
constexpr std::uint16_t domain_port = 53;

// The beginning of a file. std::system_error.
std::string content(const std::string& path) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    const auto check = [&](bool fine) {
        if (!fine) throw std::system_error(errno, std::generic_category(), path);
    };
    check(file.get() >= 0);
    std::string out;
    for (std::array<char, 16384> piece; out.size() < most_read;) {
        const auto n = read(file.get(), piece.data(), piece.size());
        if (n < 0 && errno == EINTR) continue;
        check(n >= 0);
        if (n == 0) break;
        out.append(piece.data(), std::size_t(n));
    }
    return out;
}

// The same, but a file that can't be read is empty.
std::string content_if_any(const std::string& path) try { return content(path); } catch (const std::system_error&) {
    return "";
}

using Words = std::vector<std::string>;

// Calls `use` with the words of each line that has any, without comments.
template <class Use>
void each_line(const std::string& text, Use use) {
    Words words;
    std::string word;
    bool comment = false;
    for (const char c : text + '\n') {
        comment = c != '\n' && (comment || c == '#' || c == ';');
        const bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n' || comment;
        if (!blank) word += c;
        if (blank && !word.empty()) words.push_back(std::exchange(word, {}));
        if (c != '\n') continue;
        if (!words.empty()) use(words);
        words.clear();
    }
}

// As libunbound writes it, "192.0.2.1@53".
std::string server(const std::string& text) {
    const auto where = address_octets(text).empty() ? Endpoint::parse(text, domain_port) : Endpoint{text, domain_port};
    if (address_octets(where.host).empty() || where.port == 0)
        throw std::invalid_argument("not a name server's address: " + text);
    return where.host + '@' + std::to_string(where.port);
}

std::vector<std::string> servers(const UnboundResolver::Options& options) {
    std::vector<std::string> out;
    for (const auto& text : options.servers) out.push_back(server(text));
    if (!out.empty()) return out;
    each_line(content_if_any(options.resolv_conf), [&](const Words& words) {
        if (words.size() < 2 || words[0] != "nameserver" || out.size() == most_servers) return;
        try {
            out.push_back(server(words[1]));
        } catch (const std::invalid_argument&) {
            // as if the line were not there (resolv.conf(5))
        }
    });
    if (out.empty()) out.push_back(server("127.0.0.1"));
    return out;
}

// Names in lower case, and the octets of their addresses.
using Hosts = std::map<std::string, std::vector<std::string>>;

Hosts hosts(const UnboundResolver::Options& options) {
    Hosts out;
    if (!options.servers.empty()) return out;
    each_line(content_if_any(options.hosts), [&](const Words& words) {
        const auto address = address_octets(words[0]);
        if (address.empty()) return;
        for (std::size_t i = 1; i < words.size(); ++i)
            if (const auto name = domain_name(words[i])) out[lower_case(*name)].push_back(address);
    });
    return out;
}

}  // namespace

struct UnboundResolver::Self {
    explicit Self(const Options& options) : how{servers(options), options.trust_anchor}, known(hosts(options)) {}

    // This process's.
    Unbound& unbound();

    const Unbound::Configuration how;
    const Hosts known;
    std::atomic<Unbound*> current{nullptr};  // perhaps a parent's: no lock guards it, since a fork may leave one locked
};

Unbound& UnboundResolver::Self::unbound() {
    auto* mine = current.load(std::memory_order_acquire);
    while (!mine || mine->owner != getpid()) {
        auto fresh = std::make_unique<Unbound>(how, mine);
        if (current.compare_exchange_strong(mine, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
    }
    return *mine;
}

UnboundResolver::UnboundResolver() : UnboundResolver(Options()) {}

UnboundResolver::UnboundResolver(const Options& options) : self_(std::make_unique<Self>(options)) {
    if (options.trust_anchor.empty()) return;
    bool some = false;
    each_line(content(options.trust_anchor), [&](const Words& words) {
        some = some || std::ranges::any_of(words, [](const std::string& word) {
                   const auto type = lower_case(word);
                   return type == "ds" || type == "dnskey";
               });
    });
    // libunbound would take such a file, and validate nothing.
    if (!some) throw std::runtime_error("no trust anchor in " + options.trust_anchor);
    Unbound::context(self_->how);  // does it understand the rest?
}

UnboundResolver::~UnboundResolver() {
    std::unique_ptr<Unbound> last(self_->current.load());
    if (last && last->owner != getpid()) static_cast<void>(last.release());  // the parent's
}

bool UnboundResolver::validates() const { return !self_->how.trust_anchor.empty(); }

Records UnboundResolver::query(const std::string& text, RecordType type, const Wait& wait) {
    const auto name = domain_name(text);
    if (!name) return {Records::Status::no_domain, {}, false, "not a domain name"};
    const auto known = self_->known.find(lower_case(*name));
    const bool ours = known != self_->known.end();
    if (ours && (type == RecordType::A || type == RecordType::AAAA)) {
        Records out{Records::Status::found, {}, false, ""};
        std::ranges::copy_if(known->second, std::back_inserter(out.data), [&](const std::string& address) {
            return address.size() == (type == RecordType::A ? 4 : 16);
        });
        if (out.data.empty()) out = {Records::Status::no_data, {}, false, "no such record"};
        return out;
    }
    auto records = self_->unbound().ask(*name, type, wait);
    // The DNS need not know it, but it exists.
    if (ours && records.status == Records::Status::no_domain) records.status = Records::Status::no_data;
    return records;
}

}  // namespace Net::SMTP
