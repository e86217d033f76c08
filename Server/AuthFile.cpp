#include "AuthFile.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <map>
#include <stdexcept>
#include <system_error>
#include <unordered_map>

#include "Base64.hpp"
#include "Content.hpp"
#include "Gsasl.hpp"
#include "SaslCrypto.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t longest_file = 16 << 20;
constexpr std::size_t longest_line = 1024;
constexpr std::size_t most_users = 100'000;
constexpr std::size_t key_size = 32;
constexpr std::size_t salt_size = 16;
constexpr unsigned least_iterations = 4096;  // RFC 7677 4
constexpr unsigned most_iterations = 1'000'000;
constexpr std::string_view scram = "{SCRAM-SHA-256}";

[[noreturn]] void system_failure(const std::string& path) {
    throw std::system_error(errno, std::generic_category(), path);
}

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
    throw std::runtime_error(path + ": " + why);
}

// What is looked at is what is open: a path can mean something else a moment later.
void check_file(int fd, const std::string& path) {
    struct stat status {};
    if (fstat(fd, &status) < 0) system_failure(path);
    if (!S_ISREG(status.st_mode)) refuse(path, "is not a regular file");
    if (status.st_uid != geteuid() && status.st_uid != 0) refuse(path, "belongs to another user");
    if (status.st_mode & 077) refuse(path, "others may read or write it: its mode must be 0600 or less");
}

std::string read_file(const std::string& path) {
    // A FIFO is not to be waited for.
    Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (file.get() < 0) system_failure(path);
    check_file(file.get(), path);
    std::string text;
    char part[16384];
    while (true) {
        auto count = read(file.get(), part, sizeof part);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) system_failure(path);
        if (count == 0) return text;
        text.append(part, static_cast<std::size_t>(count));
        if (text.size() > longest_file) refuse(path, "is longer than 16 MiB");
    }
}

std::optional<std::string> decoded(std::string_view text) {
    std::string octets;
    if (!base64_decode(text, octets)) return std::nullopt;
    return octets;
}

// "iterations$salt:StoredKey:ServerKey", as RFC 5803 has it.
std::optional<ScramKeys> read_keys(std::string_view text) {
    const auto dollar = text.find('$'), first = text.find(':'), second = text.find(':', first + 1);
    if (dollar == text.npos || first == text.npos || second == text.npos || dollar > first) return std::nullopt;
    ScramKeys keys;
    auto [end, error] = std::from_chars(text.data(), text.data() + dollar, keys.iterations);
    if (error != std::errc() || end != text.data() + dollar) return std::nullopt;
    if (!keys.iterations || keys.iterations > most_iterations) return std::nullopt;
    auto salt = decoded(text.substr(dollar + 1, first - dollar - 1));
    auto stored = decoded(text.substr(first + 1, second - first - 1)), server = decoded(text.substr(second + 1));
    if (!salt || salt->empty() || !stored || !server) return std::nullopt;
    if (stored->size() != key_size || server->size() != key_size) return std::nullopt;
    keys.salt = *salt;
    keys.stored_key = *stored;
    keys.server_key = *server;
    return keys;
}

// "{SHA512-CRYPT}...": a hash that would be taken for a password.
bool of_other_scheme(std::string_view text) {
    const auto fits = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '.' || c == '_'; };
    const auto end = text.find('}');
    return text.starts_with('{') && end != text.npos && end > 1 && std::ranges::all_of(text.substr(1, end - 1), fits);
}

// A name that can begin a line.
std::optional<std::string> user_name(std::string_view text) {
    if (text.empty() || text[0] == '#' || text[0] == ' ' || text.find(':') != text.npos) return std::nullopt;
    return saslprep(text);
}

}  // namespace

struct AuthFile::Table {
    struct Account {
        std::optional<ScramKeys> keys{};
        std::string password{};  // where there are no keys
    };
    std::unordered_map<std::string, Account> accounts{};
    Proofs proofs{};

    // What is wrong with the line, if anything; nothing of what it holds.
    const char* add(std::string_view line) {
        if (line.size() > longest_line) return "is longer than 1024 octets";
        const auto colon = line.find(':');
        if (colon == line.npos) return "has no ':'";
        const auto user = user_name(line.substr(0, colon));
        if (!user) return "has no valid user name";
        const auto proof = line.substr(colon + 1);
        Account account;
        if (proof.starts_with(scram)) {
            account.keys = read_keys(proof.substr(scram.size()));
            if (!account.keys) return "has no valid SCRAM-SHA-256 keys";
        } else {
            if (of_other_scheme(proof)) return "has a scheme other than {SCRAM-SHA-256}";
            const auto password = saslprep(proof);
            if (!password) return "has no valid password";
            account.password = *password;
        }
        if (!accounts.emplace(*user, std::move(account)).second) return "has a user who is there already";
        return accounts.size() > most_users ? "is one user too many: 100,000 are allowed" : nullptr;
    }

    // The form that most have is what users who do not exist get.
    void conclude() {
        std::map<std::pair<unsigned, std::size_t>, std::size_t> forms;
        std::size_t with_keys = 0;
        for (const auto& [user, account] : accounts) {
            if (!account.keys) continue;
            ++with_keys;
            ++forms[{account.keys->iterations, account.keys->salt.size()}];
        }
        proofs.kept = with_keys == accounts.size() ? Kept::keys : with_keys ? Kept::either : Kept::passwords;
        if (accounts.empty()) proofs.kept = Kept::keys;
        std::size_t most = 0;
        for (const auto& [form, count] : forms) {
            if (count <= most) continue;
            most = count;
            proofs.iterations = form.first;
            proofs.salt = form.second;
        }
    }

    static std::shared_ptr<const Table> read(const std::string& path) {
        const auto text = read_file(path);
        auto table = std::make_shared<Table>();
        std::size_t number = 0;
        for (std::string_view rest = text; !rest.empty();) {
            auto line = rest.substr(0, rest.find('\n'));
            rest.remove_prefix(std::min(line.size() + 1, rest.size()));
            ++number;
            if (line.ends_with('\r')) line.remove_suffix(1);
            if (line.find_first_not_of(" \t") == line.npos || line[0] == '#') continue;
            if (const char* wrong = table->add(line)) refuse(path, "line " + std::to_string(number) + " " + wrong);
        }
        table->conclude();
        return table;
    }
};

AuthFile::AuthFile(std::string path) : path_(std::move(path)), table_(Table::read(path_)) {}
AuthFile::~AuthFile() = default;

void AuthFile::reload() {
    auto fresh = Table::read(path_);
    std::lock_guard lock(mutex_);
    table_.swap(fresh);  // what was is freed without the lock
}

std::shared_ptr<const AuthFile::Table> AuthFile::table() const {
    std::lock_guard lock(mutex_);
    return table_;
}

std::size_t AuthFile::users() const { return table()->accounts.size(); }

Accounts::Proofs AuthFile::proofs() const { return table()->proofs; }

std::optional<ScramKeys> AuthFile::keys(const std::string& user) {
    const auto now = table();
    const auto found = now->accounts.find(user);
    return found == now->accounts.end() ? std::nullopt : found->second.keys;
}

std::optional<std::string> AuthFile::clear_password(const std::string& user) {
    const auto now = table();
    const auto found = now->accounts.find(user);
    if (found == now->accounts.end() || found->second.keys) return std::nullopt;
    return found->second.password;
}

std::string auth_line(std::string_view user, std::string_view password, unsigned iterations) {
    const auto name = user_name(user);
    if (!name) throw std::invalid_argument("Not a user's name");
    if (iterations < least_iterations || iterations > most_iterations)
        throw std::invalid_argument("4096 to 1,000,000 iterations");
    const auto keys = scram_keys(password, iterations, random_octets(salt_size));
    auto line = *name;
    ((line += ':') += scram) += std::to_string(keys.iterations);
    (line += '$') += base64_encode(keys.salt);
    (line += ':') += base64_encode(keys.stored_key);
    (line += ':') += base64_encode(keys.server_key);
    if (line.size() > longest_line) throw std::invalid_argument("The user's name is too long");
    return line;
}

}  // namespace Net::SMTP
