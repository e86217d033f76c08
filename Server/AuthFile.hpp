// AuthFile -- accounts out of a small file of users and their passwords or SCRAM keys.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "Sasl.hpp"

namespace Net::SMTP {

// A line for each user; blank ones and those that begin with '#' are skipped:
//
//     user:password
//     user:{SCRAM-SHA-256}iterations$salt:StoredKey:ServerKey       (base64; auth_line() makes them)
//
// What is behind the first ':' is the password, blanks and all; a line may end in LF or CRLF. What begins with '{', as
// "{SHA512-CRYPT}" does, or as "$6$...", and what is "*", "!" or "!!", is refused, lest a hash be taken for a password:
// of such a password keep the keys. A name can't hold a ':', and begin with neither '#' nor a blank. Names are told
// apart by case; both are kept as SASLprep (RFC 4013) writes them. Where every line holds a password CRAM-MD5 is
// offered too. Passwords in the file are hashed when a client asks for SCRAM (4096 iterations, or what most lines
// have), each time, so that reading a file is quick, however long it is.
//
// The file must be a regular one that belongs to the process's effective user or to root, and that nobody else may read
// or write (mode & 077 == 0). At most 16 MiB, 100,000 users, 1024 octets in a line. Symbolic links are followed: what
// they lead to counts.
//
// Any number of threads may use it at once; reload() too.
class AuthFile : public Accounts {
public:
    // std::system_error when the file can't be read, std::runtime_error when it is not acceptable; both with its name,
    // and with the line's number where a line is wrong, twice there or too long, but never with what it holds.
    explicit AuthFile(std::string path);
    ~AuthFile() override;
    AuthFile(const AuthFile&) = delete;
    AuthFile& operator=(const AuthFile&) = delete;

    // Reads it again. Throws as the constructor does; then everything stays as it was.
    void reload();
    std::size_t users() const;

    Proofs proofs() const override;
    std::optional<ScramKeys> keys(const std::string& user) override;
    std::optional<std::string> clear_password(const std::string& user) override;

private:
    struct Table;
    std::shared_ptr<const Table> table() const;

    const std::string path_;
    mutable std::mutex mutex_;
    std::shared_ptr<const Table> table_;
};

// A line for the file, without its end, which holds SCRAM keys with a random salt and not the password.
// std::invalid_argument for a name or password that SASLprep prohibits or that can't stand in the file, and for fewer
// than 4096 or more than 1,000,000 iterations.
std::string auth_line(std::string_view user, std::string_view password, unsigned iterations = 16384);

}  // namespace Net::SMTP
