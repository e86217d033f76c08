#include "AuthFile.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <stdexcept>
#include <system_error>
#include <unordered_map>

#include "Content.hpp"
#include "Gsasl.hpp"
#include "SaslCrypto.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t longest_file = 16 << 20;
constexpr std::size_t longest_line = 1024;
constexpr std::size_t most_users = 100'000;
constexpr unsigned least_iterations = 4096;  // RFC 7677 4

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

// "{SHA512-CRYPT}...", "$6$...", "*": a hash, or what locks an account, that would be taken for a password; and keys
// that were cut off in the middle of their scheme.
bool of_other_scheme(std::string_view text) {
    const bool crypt = text.starts_with('$') && text.find('$', 1) != text.npos;
    return text.starts_with('{') || crypt || text == "*" || text == "!" || text == "!!";
}

// A name that can begin a line, also when SASLprep has taken from it what nobody sees.
std::optional<std::string> user_name(std::string_view text) {
    const auto fits = [](std::string_view name) {
        return !name.empty() && name[0] != '#' && name[0] != ' ' && name.find(':') == name.npos;
    };
    auto name = fits(text) ? saslprep(text) : std::nullopt;
    return name && fits(*name) ? name : std::nullopt;
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
        if (proof.starts_with(ScramKeys::scheme)) {
            account.keys = ScramKeys::parse(proof);
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
    if (iterations < least_iterations || iterations > ScramKeys::most_iterations)
        throw std::invalid_argument("4096 to 1,000,000 iterations");
    auto line = *name + ':' + scram_keys(password, iterations).str();
    if (line.size() > longest_line) throw std::invalid_argument("The user's name is too long");
    return line;
}

}  // namespace Net::SMTP
